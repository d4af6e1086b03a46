//! The runner: the one process that executes a program of somebody else's, the hook. It is forked before any key is read, is nobody
//! of importance, and knows the one command line that it will ever run. The keeper tells it what the program shall read;
//! it answers how the program ended. It ends with the keeper, and its programs with it.

use std::time::Duration;

use crate::ipc::channel::Socket;
use crate::ipc::runner::{How, SAID_MAX, ToKeeper, ToRunner};
use crate::sys::process::End;
use crate::sys::program::{self, Outcome};

/// Serves as the runner; does not come back.
pub fn run(keeper: &Socket, argv: &[String], timeout: Duration) -> ! {
    // The keeper's end is the end of this process; whatever else it says is not understood.
    while let Ok(Some((ToRunner::Run { number, input }, _))) = keeper.recv::<ToRunner>() {
        let (how, said) = match program::run(argv, &input, timeout, SAID_MAX) {
            Ok(ran) => (how(&ran.outcome), ran.said),
            Err(e) => (How::NotStarted(e.to_string()), Vec::new()),
        };
        if keeper.send(&ToKeeper::Ran { number, how, said }, &[]).is_err() {
            break;
        }
    }
    std::process::exit(0)
}

fn how(outcome: &Outcome) -> How {
    match outcome {
        Outcome::Ended(End::Exit(code)) => How::Exit(*code),
        Outcome::Ended(End::Signal(signal)) => How::Signal(*signal),
        Outcome::TimedOut => How::TimedOut,
    }
}
