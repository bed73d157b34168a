//! How this process ranks among others of its machine. A heartbeat that comes too late costs an election, and so does a lock that a thread of
//! ours holds while a compiler has its processor: so all threads rank alike, before others, and only what nobody waits for ranks behind.
//! Called by main and blocking.

/// Before usual processes. Whoever has set another rank below 0 (systemd's Nice=) is left alone.
const NODE: libc::c_int = -10;
/// As usual processes: a checkpoint takes locks, too, for moments.
const UNHURRIED: libc::c_int = 0;

/// Asks the kernel to run the calling thread, and all that it will start, before others. Not everybody may.
pub fn raise() {
    // SAFETY: reads the scheduling of the calling thread; 0 names it.
    let now = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if now >= 0 && !set(NODE) {
        tracing::info!(
            "not permitted to rank before other processes (CAP_SYS_NICE, or Nice= in the unit): a busy machine may cost elections"
        );
    }
}

/// From now on the calling thread gives way to the others of this process.
pub fn lower() {
    set(UNHURRIED);
}

/// False: it is not permitted. Lowering always is.
fn set(nice: libc::c_int) -> bool {
    // SAFETY: changes the scheduling of the calling thread only; 0 names it.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
}
