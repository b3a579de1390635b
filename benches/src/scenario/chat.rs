//! `chat`: small rooms as they are: people type, talk, read, look away, come and go, and in some
//! rooms an assistant writes.

mod rhythm;

use super::gather;
use super::measure::{Measure, close};
use crate::clock;
use crate::crowd::{Crowd, Play};
use crate::dialect::Aside;
use crate::error::LoadError;
use crate::options::Options;
use crate::report::Report;
use crate::server::Server;
use rhythm::{Dice, Rhythm};

/// Answers that are being written at a time.
const STREAMS: usize = 4;
/// Parts of each answer, and how many come each second.
const STREAM_PARTS: usize = 60;
const PARTS_PER_SECOND: u64 = 20;
/// Length of a part, as `Dialect::stream` writes it.
const PART_CHARS: usize = 12;
/// How long somebody is away.
const AWAY: u64 = 2 * clock::SECOND;

/// An answer that is being written.
#[derive(Debug, Clone, Copy)]
struct Stream {
    writer: usize,
    message: u32,
    parts: usize,
}

#[derive(Debug)]
struct Chat {
    dice: Dice,
    messages: Rhythm,
    typing: Rhythm,
    reading: Rhythm,
    presence: Rhythm,
    leaving: Rhythm,
    parts: Rhythm,
    streams: Vec<Option<Stream>>,
    /// Who is away, and until when; the longest first.
    away: std::collections::VecDeque<(u64, usize)>,
    is_ending: bool,
    failed: Option<LoadError>,
    came_and_went: u64,
    asides: u64,
    stream_parts: u64,
}

impl Chat {
    fn new(rate: u64) -> Chat {
        Chat {
            dice: Dice::new(),
            messages: Rhythm::new(rate),
            typing: Rhythm::new(rate),
            reading: Rhythm::new(rate * 2),
            presence: Rhythm::new(rate.div_ceil(5)),
            leaving: Rhythm::new(rate.div_ceil(20)),
            parts: Rhythm::new(PARTS_PER_SECOND),
            streams: vec![None; STREAMS],
            away: std::collections::VecDeque::new(),
            is_ending: false,
            failed: None,
            came_and_went: 0,
            asides: 0,
            stream_parts: 0,
        }
    }

    /// Somebody who is in their room.
    fn anybody(&mut self, crowd: &Crowd) -> Option<usize> {
        let member = self.dice.below(crowd.member_count());
        crowd.is_here(member).then_some(member)
    }

    fn is_writing(&self, member: usize) -> bool {
        self.streams.iter().flatten().any(|stream| stream.writer == member)
    }

    fn aside(&mut self, crowd: &mut Crowd, aside: impl Fn(&Crowd, usize) -> Option<Aside>) {
        if let Some(member) = self.anybody(crowd)
            && let Some(aside) = aside(crowd, member)
        {
            crowd.aside(member, aside);
            self.asides += 1;
        }
    }

    fn write_on(&mut self, crowd: &mut Crowd, now: u64) {
        for place in 0..self.streams.len() {
            self.streams[place] = match self.streams[place] {
                Some(Stream { parts, writer, message }) if parts == STREAM_PARTS => {
                    crowd.go_on(writer, message, None);
                    None
                }
                Some(Stream { parts, writer, message }) => {
                    crowd.go_on(writer, message, Some(parts * PART_CHARS));
                    self.stream_parts += 1;
                    Some(Stream { parts: parts + 1, writer, message })
                }
                None if self.is_ending => None,
                None => self.begin_stream(crowd, now),
            };
        }
    }

    /// In some room, by its assistant, unless that one is at it.
    fn begin_stream(&mut self, crowd: &mut Crowd, now: u64) -> Option<Stream> {
        let rooms = usize::try_from(crowd.room_count()).unwrap_or(1);
        let room = u32::try_from(self.dice.below(rooms)).unwrap_or(0);
        let writer = crowd.members_of(room)[0];
        if !crowd.is_here(writer) || self.is_writing(writer) {
            return None;
        }
        let message = crowd.begin_stream(writer, now);
        Some(Stream { writer, message, parts: 0 })
    }

    fn come_and_go(&mut self, crowd: &mut Crowd, now: u64) {
        while let Some((_, member)) = self.away.pop_front_if(|(until, _)| *until <= now) {
            self.failed = crowd.connect(member).err().or(self.failed.take());
        }
        let leaving = self.leaving.take(now);
        for _ in 0..if self.is_ending { 0 } else { leaving } {
            let Some(member) = self.anybody(crowd) else { continue };
            // Who waits for an answer stays, so that what is not answered is a fault.
            let is_assistant = crowd.members_of(crowd.member(member).room)[0] == member;
            if !is_assistant && crowd.cursor(member).is_some() && crowd.owes_nothing(member) {
                crowd.cut(member);
                self.came_and_went += 1;
                self.away.push_back((now + AWAY, member));
            }
        }
    }
}

impl Play for Chat {
    fn tick(&mut self, crowd: &mut Crowd, now: u64) {
        self.come_and_go(crowd, now);
        for _ in 0..self.parts.take(now) {
            self.write_on(crowd, now);
        }
        let talk = [&mut self.messages, &mut self.typing, &mut self.reading, &mut self.presence]
            .map(|rhythm| rhythm.take(now));
        if self.is_ending {
            return;
        }
        for _ in 0..talk[0] {
            if let Some(member) = self.anybody(crowd) {
                crowd.send(member, now);
            }
        }
        for _ in 0..talk[1] {
            self.aside(crowd, |_, _| Some(Aside::Typing));
        }
        for _ in 0..talk[2] {
            self.aside(crowd, |crowd, member| Some(crowd.cursor(member)?.read()));
        }
        for _ in 0..talk[3] {
            let is_active = self.dice.below(2) == 0;
            self.aside(crowd, |_, _| Some(Aside::Presence { is_active }));
        }
    }

    fn delivered(&mut self, crowd: &mut Crowd, member: usize, text: &[u8]) {
        crowd.note_cursor(member, text);
    }

    fn due(&self) -> u64 {
        let rhythms = [
            &self.messages,
            &self.typing,
            &self.reading,
            &self.presence,
            &self.leaving,
            &self.parts,
        ];
        rhythms.into_iter().map(Rhythm::next).min().unwrap_or(u64::MAX)
    }

    fn is_over(&self, _crowd: &Crowd) -> bool {
        self.failed.is_some()
    }
}

pub(super) fn run(options: &Options, server: &mut Server) -> Result<Report, LoadError> {
    let members = options.connections.unwrap_or(1000);
    let rooms = options.rooms.unwrap_or(200).min(members);
    let mut crowd = Crowd::new(server, options.bytes as usize)?;
    gather::gather_with(&mut crowd, rooms, members, |crowd| {
        for room in 0..rooms {
            crowd.make_assistant(crowd.members_of(room)[0]);
        }
    })?;
    let mut play = Chat::new(options.rate.unwrap_or(100).into());
    crowd.run(clock::now() + u64::from(options.warmup) * clock::SECOND, &mut play)?;
    let mut measure = Measure::begin(server, &mut crowd);
    (play.came_and_went, play.asides, play.stream_parts) = (0, 0, 0);
    measure.play(options, (server, &mut crowd), &mut play, options.seconds.into())?;
    let mut report = measure.end(server, &crowd);
    report.count("typing, receipts and presence", play.asides);
    report.count("parts of answers", play.stream_parts);
    report.count("cut and come back", play.came_and_went);
    report.count("messages got by coming back", crowd.tally.replayed);
    report.latency("come back", crowd.tally.join.percentiles());
    play.is_ending = true;
    finish(&mut crowd, &mut play)?;
    if let Some(error) = play.failed {
        return Err(error);
    }
    close(&mut crowd, &mut report, &mut gather::Silence)?;
    Ok(report)
}

/// Waits until every answer is written and everybody is back.
fn finish(crowd: &mut Crowd, play: &mut Chat) -> Result<(), LoadError> {
    let until = clock::now() + 15 * clock::SECOND;
    let is_done = |crowd: &Crowd, play: &Chat| {
        play.streams.iter().all(Option::is_none) && crowd.joined_count() == crowd.member_count()
    };
    while !is_done(crowd, play) && clock::now() < until {
        crowd.run(clock::now() + clock::SECOND / 10, play)?;
    }
    let missing = crowd.member_count() - crowd.joined_count();
    if missing > 0 {
        crowd.ledger.fault(format!("{missing} members did not come back"));
    }
    Ok(())
}
