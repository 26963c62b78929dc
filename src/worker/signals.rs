//! Ending in time. The first SIGTERM asks the loop to stop, record what is known and leave; 900 ms later a second one
//! ends the process from whatever Postgres call it is stuck in (a commit that waits for a synchronous standby, say).
//!
//! On the way out the process leaves with `_exit`: sender threads may still be running, and exit handlers of libraries
//! beneath them would crash, which would restart the whole server.

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

use pgrx::{pg_guard, pg_sys};

use crate::pg_compat::pqsignal;

const GRACE_MS: i64 = 900;

static STOP: AtomicBool = AtomicBool::new(false);
static TIMER: AtomicPtr<libc::c_void> = AtomicPtr::new(std::ptr::null_mut());

/// Installs the handlers and lets signals in. Call first thing in a worker's main function.
pub fn install() {
    // SAFETY: called on the main thread of a fresh background worker; the handlers are async-signal-safe. The exit
    // callback is registered before anything else, so it runs last.
    unsafe {
        pg_sys::on_proc_exit(Some(leave), pg_sys::Datum::from(0));
        let mut event: libc::sigevent = std::mem::zeroed();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGTERM;
        let mut timer: libc::timer_t = std::ptr::null_mut();
        if libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) == 0 {
            TIMER.store(timer, Ordering::SeqCst);
        }
        pqsignal(libc::SIGTERM, Some(on_sigterm));
        pqsignal(libc::SIGHUP, Some(on_sighup));
        pg_sys::BackgroundWorkerUnblockSignals();
    }
}

/// Whether the process was asked to stop.
pub fn stop_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}

/// Reads the configuration files again if a SIGHUP came; true when it did.
pub fn reload_requested() -> bool {
    // SAFETY: a flag the handler sets and only the main thread clears.
    unsafe {
        if pg_sys::ConfigReloadPending == 0 {
            return false;
        }
        pg_sys::ConfigReloadPending = 0;
        pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP);
        true
    }
}

/// Waits until the latch is set, the descriptor is readable, or the time is over; handles interrupts. True when it was
/// the latch.
pub fn wait(timeout: std::time::Duration, descriptor: Option<std::os::fd::RawFd>) -> bool {
    let milliseconds = i64::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(i64::MAX).min(60_000);
    let mut events = pg_sys::WL_LATCH_SET | pg_sys::WL_TIMEOUT | pg_sys::WL_EXIT_ON_PM_DEATH;
    if descriptor.is_some() {
        events |= pg_sys::WL_SOCKET_READABLE;
    }
    // SAFETY: waits on this process's own latch; a descriptor outlives the call.
    let woken = unsafe {
        let happened = pg_sys::WaitLatchOrSocket(
            pg_sys::MyLatch,
            events.cast_signed(),
            descriptor.unwrap_or(-1),
            milliseconds,
            pg_sys::PG_WAIT_EXTENSION,
        );
        pg_sys::ResetLatch(pg_sys::MyLatch);
        happened.cast_unsigned() & pg_sys::WL_LATCH_SET != 0
    };
    pgrx::check_for_interrupts!();
    woken
}

#[pg_guard]
unsafe extern "C-unwind" fn on_sigterm(signal: i32) {
    // SAFETY: only async-signal-safe calls; `die` and SetLatch are what Postgres' own handlers do.
    unsafe {
        let errno = *libc::__errno_location();
        if STOP.swap(true, Ordering::SeqCst) {
            pg_sys::die(signal);
        } else {
            let timer = TIMER.load(Ordering::SeqCst);
            if !timer.is_null() {
                let mut once: libc::itimerspec = std::mem::zeroed();
                once.it_value.tv_nsec = GRACE_MS * 1_000_000;
                libc::timer_settime(timer, 0, &raw const once, std::ptr::null_mut());
            }
            pg_sys::SetLatch(pg_sys::MyLatch);
        }
        *libc::__errno_location() = errno;
    }
}

#[pg_guard]
unsafe extern "C-unwind" fn on_sighup(signal: i32) {
    // SAFETY: Postgres' own handler.
    unsafe { pg_sys::SignalHandlerForConfigReload(signal) };
}

#[pg_guard]
unsafe extern "C-unwind" fn leave(code: i32, _argument: pg_sys::Datum) {
    // SAFETY: everything Postgres wanted to do at exit has been done.
    unsafe { libc::_exit(code) };
}
