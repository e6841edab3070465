from __future__ import annotations

import time
from uuid import UUID

from tako.protocol.ids import uuid7


def test_an_id_is_a_uuid_of_version_7_that_carries_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = UUID(uuid7())
    after = time.time_ns() // 1_000_000

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert before <= made.int >> 80 <= after
    assert str(made) == str(UUID(str(made)))


def test_ids_differ_and_sort_by_the_time_they_were_made() -> None:
    made = [uuid7() for _ in range(20_000)]

    assert len(set(made)) == len(made)
    assert [one[:15] for one in made] == sorted(one[:15] for one in made)
