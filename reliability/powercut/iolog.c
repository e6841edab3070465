/* Preloaded into the daemon: writes down, in one order, what it asks of the disk and what it says to its callers.
 *
 *   O open (made: 1)  W write  T truncate  S sync  U unlink  N rename  M mkdir      of the store's files and folders
 *   C accept          R read   A answer   Z so many bytes of it not yet             of its socket
 *
 * A write is noted after it was done, a sync after it has returned, and an answer before it is sent: so a log that is
 * cut anywhere never claims more for the disk, nor less for the callers, than was true.
 *
 * It can also make the N-th write, sync, truncate, or sync of a folder (F) fail, COUNT times: IOLOG_FAIL=W:17:28:1, or,
 * in this process, iolog_fail('W', 17, ENOSPC, 1).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 65536
#define REAL(name) ((typeof(&name))real_##name)

static void *real_write, *real_pwrite64, *real_writev, *real_read, *real_send, *real_open64, *real_openat64, *real_close,
    *real_fsync, *real_fdatasync, *real_ftruncate64, *real_unlink, *real_rename, *real_mkdir, *real_accept4;

static int log_fd = -1;
static const char *root;
static char *file_of[FDS];           /* the store's files, by descriptor */
static ino_t caller_of[FDS];         /* connections that were accepted: their inodes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct { char op; long at; int error; long count; long seen[128]; } fault;

void iolog_fail(int op, long at, int error, long count) {
    pthread_mutex_lock(&lock);
    fault.op = (char)op; fault.at = at; fault.error = error; fault.count = count;
    memset(fault.seen, 0, sizeof fault.seen);
    pthread_mutex_unlock(&lock);
}

long iolog_seen(int op) { return fault.seen[op]; }

void iolog_root(const char *path) { root = strdup(path); }

__attribute__((constructor)) static void begin(void) {
#define FIND(name) real_##name = dlsym(RTLD_NEXT, #name)
    FIND(write); FIND(pwrite64); FIND(writev); FIND(read); FIND(send); FIND(open64); FIND(openat64); FIND(close);
    FIND(fsync); FIND(fdatasync); FIND(ftruncate64); FIND(unlink); FIND(rename); FIND(mkdir); FIND(accept4);
    root = getenv("IOLOG_ROOT");
    const char *path = getenv("IOLOG");
    if (path != NULL && *path) {
        int fd = REAL(open64)(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        log_fd = fcntl(fd, F_DUPFD_CLOEXEC, 900);  /* out of the way of whoever counts on small numbers */
        REAL(close)(fd);
    }
    const char *plan = getenv("IOLOG_FAIL");
    if (plan != NULL && *plan)
        sscanf(plan, "%c:%ld:%d:%ld", &fault.op, &fault.at, &fault.error, &fault.count);
}

/* Returns 1 when this operation is to fail; errno is set then. */
static int fails(char op) {
    int failing = 0;
    pthread_mutex_lock(&lock);
    long n = ++fault.seen[(int)op];
    failing = op == fault.op && n >= fault.at && n < fault.at + fault.count;
    pthread_mutex_unlock(&lock);
    if (failing) errno = fault.error;
    return failing;
}

static void note(char op, int fd, const char *path, uint64_t offset, const void *data, size_t size) {
    if (log_fd < 0) return;
    struct __attribute__((packed)) { char op; int32_t fd; uint64_t offset; uint32_t size; uint16_t path; } head;
    uint16_t length = path ? (uint16_t)strlen(path) : 0;
    head.op = op; head.fd = fd; head.offset = offset; head.size = (uint32_t)size; head.path = length;
    struct iovec parts[3] = {{&head, sizeof head}, {(void *)path, length}, {(void *)data, size}};
    int saved = errno;
    pthread_mutex_lock(&lock);
    if (REAL(writev)(log_fd, parts, 3) < 0) abort();  /* a log with a hole would prove nothing */
    pthread_mutex_unlock(&lock);
    errno = saved;
}

/* The files whose loss would matter; -shm is rebuilt from the log by SQLite and promises nothing. */
static int is_ours(const char *path) {
    if (root == NULL || path == NULL || strncmp(path, root, strlen(root)) != 0 || strstr(path, "-shm")) return 0;
    return strstr(path, "runs.db") != NULL || strstr(path, "engine.json") != NULL;
}

static int is_under_root(const char *path) { return root != NULL && strncmp(path, root, strlen(root)) == 0; }

static const char *ours(int fd) { return fd >= 0 && fd < FDS ? file_of[fd] : NULL; }

/* libuv closes by a bare system call, which nobody can intercept: so the descriptor may be another file's by now. */
static int is_caller(int fd) {
    struct stat found;
    if (fd < 0 || fd >= FDS || caller_of[fd] == 0) return 0;
    if (fstat(fd, &found) == 0 && S_ISSOCK(found.st_mode) && found.st_ino == caller_of[fd]) return 1;
    caller_of[fd] = 0;
    return 0;
}

static int opened(int fd, const char *path, int flags, int was_there) {
    struct stat found;
    if (fd < 0 || fd >= FDS || !is_under_root(path)) return fd;
    if (!is_ours(path) && (fstat(fd, &found) != 0 || !S_ISDIR(found.st_mode))) return fd;
    file_of[fd] = strdup(path);
    if (is_ours(path)) note('O', fd, path, !was_there, NULL, 0);
    if (is_ours(path) && (flags & O_TRUNC) && was_there) note('T', fd, path, 0, NULL, 0);
    return fd;
}

#define OPEN(call) \
    int mode = 0, was_there = is_ours(path) && access(path, F_OK) == 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, int); va_end(rest); } \
    return opened(call, path, flags, was_there)

int open64(const char *path, int flags, ...) { OPEN(REAL(open64)(path, flags, mode)); }
int open(const char *path, int flags, ...) { OPEN(REAL(open64)(path, flags, mode)); }
int openat64(int at, const char *path, int flags, ...) { OPEN(REAL(openat64)(at, path, flags, mode)); }
int openat(int at, const char *path, int flags, ...) { OPEN(REAL(openat64)(at, path, flags, mode)); }

int close(int fd) {
    if (fd >= 0 && fd < FDS) {
        if (fd == log_fd) return 0;  /* whoever closes all descriptors does not mean ours */
        free(file_of[fd]);
        file_of[fd] = NULL;
        caller_of[fd] = 0;
    }
    return REAL(close)(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    const char *path = ours(fd);
    if (path && fails('W')) return -1;
    ssize_t done = REAL(pwrite64)(fd, data, size, offset);
    if (path && done > 0) note('W', fd, path, (uint64_t)offset, data, (size_t)done);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

/* The end of an answer did not go out now; it is written again later. */
static void unsaid(int fd, size_t size, ssize_t done) {
    size_t left = size - (done > 0 ? (size_t)done : 0);
    if (left) note('Z', fd, NULL, left, NULL, 0);
}

ssize_t write(int fd, const void *data, size_t size) {
    const char *path = ours(fd);
    if (path && fails('W')) return -1;
    int answers = !path && is_caller(fd);
    if (answers) note('A', fd, NULL, 0, data, size);
    ssize_t done = REAL(write)(fd, data, size);
    if (answers) unsaid(fd, size, done);
    if (path && done > 0) note('W', fd, path, (uint64_t)(lseek64(fd, 0, SEEK_CUR) - done), data, (size_t)done);
    return done;
}

ssize_t send(int fd, const void *data, size_t size, int flags) {
    int answers = is_caller(fd);
    if (answers) note('A', fd, NULL, 0, data, size);
    ssize_t done = REAL(send)(fd, data, size, flags);
    if (answers) unsaid(fd, size, done);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    size_t size = 0;
    int answers = is_caller(fd);
    for (int i = 0; answers && i < count; size += parts[i++].iov_len)
        note('A', fd, NULL, 0, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = REAL(writev)(fd, parts, count);
    if (answers) unsaid(fd, size, done);
    return done;
}

ssize_t read(int fd, void *data, size_t size) {
    ssize_t done = REAL(read)(fd, data, size);
    if (done > 0 && is_caller(fd)) note('R', fd, NULL, 0, data, (size_t)done);
    return done;
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags) {
    int found = REAL(accept4)(fd, address, length, flags);
    struct stat about;
    if (found >= 0 && found < FDS && fstat(found, &about) == 0) {
        caller_of[found] = about.st_ino;
        note('C', found, NULL, 0, NULL, 0);
    }
    return found;
}

static int synced(int fd, int failed) {
    if (!failed && ours(fd)) note('S', fd, ours(fd), 0, NULL, 0);
    return failed;
}
int fsync(int fd) { return ours(fd) && fails(is_ours(ours(fd)) ? 'S' : 'F') ? -1 : synced(fd, REAL(fsync)(fd)); }
int fdatasync(int fd) { return ours(fd) && fails(is_ours(ours(fd)) ? 'S' : 'F') ? -1 : synced(fd, REAL(fdatasync)(fd)); }

int ftruncate64(int fd, off64_t size) {
    if (ours(fd) && fails('T')) return -1;
    int failed = REAL(ftruncate64)(fd, size);
    if (!failed && ours(fd)) note('T', fd, ours(fd), (uint64_t)size, NULL, 0);
    return failed;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int unlink(const char *path) {
    int failed = REAL(unlink)(path);
    if (!failed && is_ours(path)) note('U', -1, path, 0, NULL, 0);
    return failed;
}

int rename(const char *from, const char *to) {
    int failed = REAL(rename)(from, to);
    if (!failed && (is_ours(from) || is_ours(to))) note('N', -1, from, 0, to, strlen(to));
    return failed;
}

int mkdir(const char *path, mode_t mode) {
    int failed = REAL(mkdir)(path, mode);
    if (!failed && is_under_root(path)) note('M', -1, path, 0, NULL, 0);
    return failed;
}
