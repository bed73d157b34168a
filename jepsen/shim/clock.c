// Clocks that are wrong on purpose: preloaded into a node, it answers for its clocks as the page in the file JEPSEN_CLOCK says, and makes
// waits as much shorter or longer. The page is written by nemesis/clock.rs while the node runs.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

struct page {
  _Atomic uint64_t sequence; // odd while it is written
  int64_t offset;            // of the wall clock, ns
  double rate;               // of the monotonic clocks; 0: not set
  int64_t from, to;          // the monotonic clock was `to` when it really was `from`, ns
  _Atomic uint64_t asked;    // how often somebody asked
};
static struct page *page;

// The system call itself: libc's functions of this name are what is replaced here.
static long raw(long n, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
  long r;
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
#elif defined(__aarch64__)
  register long x8 __asm__("x8") = n, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c, x3 __asm__("x3") = d,
                x4 __asm__("x4") = e, x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
  return x0;
#else
#error "the shim knows x86_64 and aarch64"
#endif
}

static long result(long r) {
  if (r < 0 && r > -4096) {
    errno = (int)-r;
    return -1;
  }
  return r;
}

__attribute__((constructor)) static void set_up(void) {
  const char *path = getenv("JEPSEN_CLOCK");
  if (!path) return;
  long fd = raw(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
  if (fd < 0) return;
  long at = raw(SYS_mmap, 0, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  raw(SYS_close, fd, 0, 0, 0, 0, 0);
  if (at > 0) page = (struct page *)at;
}

static struct page now(void) {
  struct page copy;
  uint64_t before;
  do {
    before = atomic_load(&page->sequence);
    copy.offset = page->offset, copy.rate = page->rate, copy.from = page->from, copy.to = page->to;
  } while ((before & 1) || atomic_load(&page->sequence) != before);
  if (copy.rate == 0) copy.rate = 1, copy.from = copy.to = 0;
  return copy;
}

static int64_t ns(const struct timespec *t) { return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec; }

static void set(struct timespec *t, int64_t all) {
  if (all < 0) all = 0;
  t->tv_sec = all / 1000000000;
  t->tv_nsec = all % 1000000000;
}

int clock_gettime(clockid_t id, struct timespec *t) {
  long r = raw(SYS_clock_gettime, id, (long)t, 0, 0, 0, 0);
  if (r != 0 || !page) return (int)result(r);
  struct page is = now();
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) {
    set(t, ns(t) + is.offset);
  } else if (id == CLOCK_MONOTONIC || id == CLOCK_MONOTONIC_RAW || id == CLOCK_MONOTONIC_COARSE || id == CLOCK_BOOTTIME) {
    set(t, is.to + (int64_t)((double)(ns(t) - is.from) * is.rate));
  } else {
    return 0;
  }
  atomic_fetch_add(&page->asked, 1);
  return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
  (void)zone;
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  tv->tv_sec = t.tv_sec, tv->tv_usec = t.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (out) *out = t.tv_sec;
  return t.tv_sec;
}

// A wait until a moment of the monotonic clock, or for so long, as it really is.
static struct timespec real(const struct timespec *t, int absolute) {
  struct page is = now();
  struct timespec out;
  set(&out, absolute ? is.from + (int64_t)((double)(ns(t) - is.to) / is.rate) : (int64_t)((double)ns(t) / is.rate));
  return out;
}

long syscall(long n, long a, long b, long c, long d, long e, long f) {
  if (n == SYS_futex && d && page && !(b & FUTEX_CLOCK_REALTIME)) {
    int wait = b & FUTEX_CMD_MASK;
    if (wait == FUTEX_WAIT_BITSET || wait == FUTEX_WAIT) {
      struct timespec t = real((struct timespec *)d, wait == FUTEX_WAIT_BITSET);
      return result(raw(n, a, b, c, (long)&t, e, f));
    }
  }
  return result(raw(n, a, b, c, d, e, f));
}

int epoll_wait(int fd, struct epoll_event *events, int most, int timeout) {
  if (timeout > 0 && page) {
    timeout = (int)((double)timeout / now().rate + 0.5);
    if (timeout < 1) timeout = 1;
  }
  return (int)result(raw(SYS_epoll_pwait, fd, (long)events, most, timeout, 0, 8));
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *wanted, struct timespec *left) {
  struct timespec t = *wanted;
  if (page && id == CLOCK_MONOTONIC) t = real(wanted, flags & TIMER_ABSTIME);
  return (int)-raw(SYS_clock_nanosleep, id, flags, (long)&t, (long)left, 0, 0);
}

int nanosleep(const struct timespec *wanted, struct timespec *left) {
  struct timespec t = page ? real(wanted, 0) : *wanted;
  return (int)result(raw(SYS_nanosleep, (long)&t, (long)left, 0, 0, 0, 0));
}
