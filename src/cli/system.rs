//! What the program settles with its system before anything else.

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Mesa's layer that orders devices asks the Wayland display, and complains ("error: XDG_RUNTIME_DIR is invalid") where
/// there is no desktop. Without a desktop it has nothing to ask: it is left out unless its user has set it up.
pub(super) fn quiet_mesa() {
    let is_set = |name| std::env::var_os(name).is_some();
    if cfg!(target_os = "linux") && !is_set("XDG_RUNTIME_DIR") && !is_set("MESA_VK_DEVICE_SELECT") {
        // SAFETY: the first thing that the process does, on its only thread.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}

/// A write past the limit on the size of files (`ulimit -f`) fails, with words, where it would end the process without any.
pub(super) fn let_writes_fail() {
    #[cfg(unix)]
    {
        use nix::sys::signal::{SigHandler, Signal, signal};
        // SAFETY: a signal that is ignored runs no handler. Where it cannot be ignored, everything stays as usual.
        let _ = unsafe { signal(Signal::SIGXFSZ, SigHandler::SigIgn) };
    }
}

/// As many threads as there are cores, or as the system grants (`ulimit -u`, `ulimit -v`): half as many while it refuses, and at last
/// the one that asks.
pub(super) fn workers() -> ThreadPool {
    let mut count = std::thread::available_parallelism().map_or(1, usize::from);
    // Zero is the default, which RAYON_NUM_THREADS may set.
    let mut pool = ThreadPoolBuilder::new().num_threads(0).build();
    while let (Err(error), true) = (&pool, count > 1) {
        count /= 2;
        tracing::warn!("the system grants no more threads ({error}): {count} or fewer compute");
        pool = ThreadPoolBuilder::new().num_threads(count).build();
    }
    pool.unwrap_or_else(|_| {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        alone.expect("no thread is started, and this one is in no pool yet")
    })
}
