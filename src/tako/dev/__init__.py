"""`tako dev`: one folder's host in the foreground. `session` is what its terminal shows, `watch` what was saved."""
