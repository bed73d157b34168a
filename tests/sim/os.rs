//! What a simulated run must not take from the machine: its clocks and its randomness. This test binary defines `clock_gettime` and
//! `getrandom` itself; outside of a run both ask the kernel. Also here: runs are made in processes of their own, because statics of
//! libraries (the counters behind `select!`) would let one run change the next.

use std::cell::Cell;
use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where simulated wall clocks begin: some day in 2026, seconds.
const WALL_EPOCH: u64 = 1_780_000_000;
/// Where simulated monotonic clocks begin, nanoseconds: not at 0, which some would take for "never".
const MONOTONIC_EPOCH: u64 = 1_000_000_000_000;

/// Randomness comes from this seed; 0: from the kernel.
static SEED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    /// Simulated nanoseconds on this thread; `u64::MAX`: real ones.
    static NOW: Cell<u64> = const { Cell::new(u64::MAX) };
}

pub fn seed_process(seed: u64) {
    // Any but 0.
    SEED.store(mix(seed) | 1, Ordering::SeqCst);
}

/// From now on this thread's clocks stand at so many simulated nanoseconds.
pub fn set_clock(nanos: u64) {
    NOW.set(nanos);
}

/// The same bytes, the same number: in every process, and fast where nothing of ours is optimised.
pub fn hash_of(bytes: &[u8]) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Spreads the bits of a number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// # Safety
/// `buf` must be writable for `len` bytes, as for getrandom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buf: *mut libc::c_void, len: usize, flags: libc::c_uint) -> isize {
    let seed = SEED.load(Ordering::SeqCst);
    if seed == 0 {
        // SAFETY: the caller's promise is the kernel's demand.
        return unsafe { libc::syscall(libc::SYS_getrandom, buf, len, flags) } as isize;
    }
    for at in 0..len {
        let drawn = DRAWN.get();
        DRAWN.set(drawn + 1);
        // SAFETY: at < len.
        unsafe { buf.cast::<u8>().add(at).write(mix(seed ^ mix(drawn)) as u8) };
    }
    len as isize
}

/// # Safety
/// `time` must be writable, as for clock_gettime(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> libc::c_int {
    let now = NOW.get();
    let nanos = match clock {
        _ if now == u64::MAX => None,
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => Some(WALL_EPOCH * 1_000_000_000 + now),
        libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE | libc::CLOCK_BOOTTIME => Some(MONOTONIC_EPOCH + now),
        _ => None,
    };
    match nanos {
        // SAFETY: the caller's promise.
        Some(nanos) => unsafe {
            time.write(libc::timespec {
                tv_sec: (nanos / 1_000_000_000) as i64,
                tv_nsec: (nanos % 1_000_000_000) as i64,
            });
            0
        },
        // SAFETY: the caller's promise is the kernel's demand.
        None => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as libc::c_int },
    }
}
