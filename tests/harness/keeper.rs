//! Starts server processes so that none outlives the test run.
//!
//! A child asks the kernel for a signal when its parent dies (`PR_SET_PDEATHSIG`). The kernel means
//! the parent *thread*, and test threads come and go, so one thread that lives as long as the
//! process starts them all. A run that is killed, even with SIGKILL, takes its servers along.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

type Request = (Command, Sender<io::Result<Child>>);

/// Starts `command`; the kernel sends it SIGQUIT (a server's immediate shutdown) when this process ends.
///
/// # Errors
/// What the operating system said when it could not start the program.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = std::process::id();
    let ask = move || {
        // SAFETY: both calls are async-signal-safe, which is all a forked child may use.
        unsafe {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGQUIT) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have gone before the line above.
            if libc::getppid() as u32 != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
        }
        Ok(())
    };
    // SAFETY: the closure allocates nothing and takes no lock. It runs after the change of user, which
    // would have cleared the request.
    unsafe { command.pre_exec(ask) };

    let (answer, started) = channel();
    keeper().send((command, answer)).expect("the keeper thread runs until the process ends");
    started.recv().expect("the keeper thread answers each request")
}

fn keeper() -> &'static Sender<Request> {
    static KEEPER: OnceLock<Sender<Request>> = OnceLock::new();
    KEEPER.get_or_init(|| {
        let (requests, inbox) = channel::<Request>();
        std::thread::Builder::new()
            .name("keeper".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    // A requester that is gone has panicked; its test has failed already.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("one more thread");
        requests
    })
}
