//! Threads that work for long stand back behind the trainings on the same machine (DESIGN section 4.1).
//!
//! On Linux niceness and priority for the disk belong to a thread, and the threads that it starts begin with its own:
//! so libtorch's and the solver's stand back with the one that calls them, while decisions, signals and `/metrics`
//! are as prompt as those of any other process.

use crate::evaluation::Priority;

/// Has the calling thread, and those that it will start, stand back. A thread that stands further back already stays
/// there: only the system's administrator may bring it forward. What the system refuses is told once, and nothing
/// depends on it.
pub(crate) fn stand_back(priority: Priority) {
    linux::stand_back(priority);
}

/// The niceness of such threads: the one that is asked for, or that of this process where that is further back.
pub(crate) fn niceness(asked: u8) -> i32 {
    let own = rustix::process::getpriority_process(None);
    own.map_or(i32::from(asked), |own| own.max(i32::from(asked)))
}

#[cfg(target_os = "linux")]
mod linux {
    use crate::evaluation::priority::stand_back_to;
    use crate::evaluation::{IoPriority, Priority};
    use std::ffi::{c_int, c_long};
    use std::sync::Once;

    /// `IOPRIO_WHO_PROCESS`, which for 0 is the calling thread.
    const WHO: c_int = 1;
    /// The class stands above the level.
    const CLASS_SHIFT: u32 = 13;
    const BEST_EFFORT: c_long = 2;
    const IDLE: c_long = 3;
    const LAST_LEVEL: c_long = 7;
    const LEVELS: c_long = (1 << CLASS_SHIFT) - 1;

    pub(super) fn stand_back(priority: Priority) {
        static TOLD: Once = Once::new();
        let done = stand_back_to(i32::from(priority.nice)).and_then(|()| io(priority.io));
        if let Err(error) = done {
            TOLD.call_once(|| {
                tracing::warn!(%error, "`compute.nice` and `compute.io` are not heeded here");
            });
        }
    }

    fn io(priority: IoPriority) -> std::io::Result<()> {
        let value = match priority {
            IoPriority::Normal => return Ok(()),
            IoPriority::Low => BEST_EFFORT << CLASS_SHIFT | LAST_LEVEL,
            IoPriority::Idle => IDLE << CLASS_SHIFT,
        };
        // SAFETY: it takes two numbers.
        let now = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO, 0 as c_int) };
        if now < 0 {
            return Err(std::io::Error::last_os_error());
        }
        if stands_back(now) >= stands_back(value) {
            return Ok(());
        }
        // SAFETY: it takes three numbers and sets one.
        match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO, 0 as c_int, value) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Comparable: further back is more.
    fn stands_back(value: c_long) -> (c_long, c_long) {
        match (value >> CLASS_SHIFT, value & LEVELS) {
            // Of one that has never been set the niceness decides, within best effort.
            (0, _) => (BEST_EFFORT, 0),
            // All levels are one.
            (IDLE, _) => (IDLE, 0),
            other => other,
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use rustix::process::getpriority_process;

        fn of_this_thread() -> (i32, c_long) {
            // SAFETY: it takes two numbers.
            let io = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO, 0 as c_int) };
            (getpriority_process(None).expect("a niceness"), io)
        }

        #[test]
        fn a_thread_and_those_that_it_starts_stand_back_and_no_other() {
            let before = of_this_thread();
            let priority = Priority { nice: 12, io: IoPriority::Low };
            let apart = std::thread::spawn(move || {
                super::super::stand_back(priority);
                // Never forward again.
                super::super::stand_back(Priority { nice: 3, io: IoPriority::Normal });
                let started = std::thread::spawn(of_this_thread);
                (of_this_thread(), started.join().expect("no panic"))
            });
            let (own, started) = apart.join().expect("no panic");
            assert_eq!(own.0, 12.max(before.0));
            assert_eq!(own.1, BEST_EFFORT << CLASS_SHIFT | LAST_LEVEL);
            assert_eq!(started, own);
            assert_eq!(of_this_thread(), before);
        }

        #[test]
        fn a_thread_that_waits_for_everybody_goes_on_to_do_so() {
            let idle = std::thread::spawn(|| {
                super::super::stand_back(Priority { nice: 0, io: IoPriority::Idle });
                let idle = of_this_thread().1;
                super::super::stand_back(Priority { nice: 0, io: IoPriority::Low });
                (idle, of_this_thread().1)
            });
            let (idle, after) = idle.join().expect("no panic");
            assert_eq!((idle, after), (IDLE << CLASS_SHIFT, idle));
            // Never set, the class of real time, and the levels of best effort, from the front to the back.
            let order = [
                1 << CLASS_SHIFT | 7,
                0,
                2 << CLASS_SHIFT | 4,
                2 << CLASS_SHIFT | 7,
                IDLE << CLASS_SHIFT,
            ];
            assert!(order.windows(2).all(|pair| stands_back(pair[0]) < stands_back(pair[1])));
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    /// Elsewhere they belong to the process, of which only some threads should stand back.
    pub(super) fn stand_back(_: crate::evaluation::Priority) {}
}
