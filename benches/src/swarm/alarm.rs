//! A timer that wakes the loop within a fraction of a millisecond: what epoll itself can wait for
//! is whole milliseconds, which is too coarse to send a message when it is due.

use crate::clock;
use crate::error::LoadError;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// Wakes the loop once.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it will ring; 0 for not at all.
    at: u64,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> Result<Alarm, LoadError> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        );
        let failed = |source| LoadError::io("making a timer", source);
        let timer = timer.map_err(|errno| failed(errno.into()))?;
        let fd = timer.as_raw_fd();
        registry.register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(failed)?;
        Ok(Alarm { timer, at: 0 })
    }

    /// Rings at that time at the latest. The timeout to wait with.
    pub(super) fn set(&mut self, until: u64) -> Result<Option<Duration>, LoadError> {
        let now = clock::now();
        if until <= now {
            return Ok(Some(Duration::ZERO));
        }
        if self.at == until {
            return Ok(None);
        }
        let wait = Duration::from_nanos(until - now);
        let value = Timespec {
            tv_sec: wait.as_secs().cast_signed(),
            tv_nsec: wait.subsec_nanos().cast_signed().into(),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)
            .map_err(|errno| LoadError::io("setting a timer", errno.into()))?;
        self.at = until;
        Ok(None)
    }

    /// It rang: its time is over. Setting it anew also forgets that.
    pub(super) fn rang(&mut self) {
        self.at = 0;
    }
}
