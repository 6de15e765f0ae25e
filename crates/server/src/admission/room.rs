//! Who signs next. Invariant: of those who wait, whoever needs it soonest goes first; what waits is bounded in requests and bytes, and nobody's second
//! request goes before another's first.
//!
//! Pure: the time comes in, and what is to be told to whom comes out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use landfast_identity::SpiffeId;
use tokio::time::Instant;

use super::pace::Pace;

/// What the room holds at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Requests, those that are served included.
    pub(crate) requests: usize,
    /// Their messages.
    pub(crate) bytes: usize,
    /// How long one is let wait, as far as can be foreseen.
    pub(crate) longest: Duration,
}

/// What is asked for. An agent's requests of one kind stand behind each other, not behind those of another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// The agent's own SVID.
    Own,
    /// X.509-SVIDs of its workloads.
    Svids,
    /// Tokens, and what else somebody waits for.
    Tokens,
    /// What is had ahead: nobody is without an identity while it waits.
    Ahead,
}

/// Whose requests stand one behind the other.
pub(super) type Who = (SpiffeId, Kind);

/// One request for signatures.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) who: Who,
    /// Signatures.
    pub(super) count: usize,
    pub(super) bytes: usize,
    /// Unix seconds.
    pub(super) needed_by: i64,
    /// The same, from now; `None` when something is missing already, so that no more is lost by waiting.
    pub(super) needed_in: Option<Duration>,
    /// It cannot be asked for again, so it is not refused.
    pub(super) certain: bool,
}

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It is its turn.
    Go,
    /// It is to come again after this time.
    Later(Duration),
}

/// In which order they go.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Place {
    /// Whatever else is asked for goes first, however much time it has.
    is_ahead: bool,
    /// How many requests of the same caller and kind were here when this one came.
    rank: usize,
    needed_by: i64,
    number: u64,
}

impl Place {
    /// Whether it goes before another for more than having come first.
    fn before(self, other: Self) -> bool {
        let order = |place: Self| (place.is_ahead, place.rank, place.needed_by);
        order(self) < order(other)
    }
}

/// One request that is here.
struct Guest<T> {
    place: Place,
    ask: Ask,
    /// Whom to tell; gone once told.
    token: Option<T>,
    /// It has had a turn, and was interrupted.
    begun: bool,
}

/// The waiting room, with those who are being served. `T` is how a request is told.
pub(super) struct Room<T> {
    bounds: Bounds,
    inside: HashMap<u64, Guest<T>>,
    /// With the signatures of each.
    waiting: BTreeMap<Place, usize>,
    /// Signatures of all who wait.
    queued: usize,
    /// Requests of each caller: an entry here has at least one inside.
    of: HashMap<Who, usize>,
    bytes: usize,
    /// In units.
    under_way: usize,
    next: u64,
    pace: Pace,
    /// Who was told to come again, and when: bounded by [`PROMISES`].
    promised: HashMap<Who, Instant>,
}

/// Whom to tell what.
pub(super) type Told<T> = Vec<(T, Verdict)>;

impl<T> Room<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            inside: HashMap::new(),
            waiting: BTreeMap::new(),
            queued: 0,
            of: HashMap::new(),
            bytes: 0,
            under_way: 0,
            next: 0,
            pace: Pace::default(),
            promised: HashMap::new(),
        }
    }

    /// One comes in. Its number is good until it leaves, also when it is told to come again: then it has left.
    pub(super) fn arrive(&mut self, now: Instant, ask: Ask, token: T) -> (u64, Told<T>) {
        let (mut told, number) = (Told::new(), self.next);
        self.next += 1;
        let place = Place {
            is_ahead: ask.who.1 == Kind::Ahead,
            rank: self.of.get(&ask.who).copied().unwrap_or(0),
            needed_by: ask.needed_by,
            number,
        };
        if !ask.certain && !self.can_take(place, &ask) {
            return (number, vec![(token, Verdict::Later(self.promise(now, &ask)))]);
        }
        while self.overflows(ask.bytes)
            && let Some(last) = self.last_to_refuse(place)
        {
            told.extend(self.refuse(now, last));
        }
        if self.waiting.is_empty() && self.under_way == 0 {
            self.pace.begin(now);
        }
        self.bytes += ask.bytes;
        *self.of.entry(ask.who.clone()).or_default() += 1;
        self.promised.remove(&ask.who);
        self.queue(place, ask.count);
        let guest = Guest {
            place,
            ask,
            token: Some(token),
            begun: false,
        };
        self.inside.insert(number, guest);
        told.extend(self.call());
        (number, told)
    }

    /// One goes: done, or tired of waiting.
    pub(super) fn leave(&mut self, now: Instant, number: u64) -> Told<T> {
        let Some(guest) = self.remove(number) else {
            return Told::new();
        };
        if !self.unqueue(guest.place) {
            self.under_way -= units(guest.ask.count);
            self.pace.done(now, guest.ask.count, !self.waiting.is_empty());
        }
        self.call()
    }

    /// One has waited for too long.
    pub(super) fn give_up(&mut self, now: Instant, number: u64) -> (Option<Duration>, Told<T>) {
        let waits = self
            .inside
            .get(&number)
            .filter(|guest| self.waiting.contains_key(&guest.place));
        let Some((place, ask)) = waits.map(|guest| (guest.place, guest.ask.clone())) else {
            return (None, Told::new());
        };
        self.remove(number);
        self.unqueue(place);
        (Some(self.promise(now, &ask)), self.call())
    }

    /// Whether one who is being served should make room for somebody who needs it sooner.
    pub(super) fn should_pause(&self, number: u64) -> bool {
        let (first, guest) = (self.waiting.first_key_value(), self.inside.get(&number));
        first.zip(guest).is_some_and(|((first, _), guest)| {
            let sooner = first.before(guest.place);
            sooner && !self.waiting.contains_key(&guest.place)
        })
    }

    /// Interrupts one who is being served: it goes on in its turn, and is not refused any more.
    pub(super) fn pause(&mut self, number: u64, token: T) -> Told<T> {
        if !self.should_pause(number) {
            return vec![(token, Verdict::Go)];
        }
        if let Some(guest) = self.inside.get_mut(&number) {
            guest.token = Some(token);
            guest.begun = true;
            let (place, count) = (guest.place, guest.ask.count);
            self.under_way -= units(count);
            self.queue(place, count);
        }
        self.call()
    }

    /// Requests that wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that are being served.
    pub(super) fn served(&self) -> usize {
        self.inside.len() - self.waiting.len()
    }

    /// When the one that goes next needs it.
    pub(super) fn soonest(&self) -> Option<i64> {
        self.waiting.first_key_value().map(|(place, _)| place.needed_by)
    }

    /// Whether somebody was refused within this time.
    pub(super) fn refused_within(&self, now: Instant, within: Duration) -> bool {
        self.pace.refused_within(now, within)
    }

    fn can_take(&self, place: Place, ask: &Ask) -> bool {
        let share = (self.bounds.requests / SHARES).max(2);
        let fits = || !self.overflows(ask.bytes) || self.can_make_room(place, ask.bytes);
        place.rank < share && self.comes_in_time(place) && fits()
    }

    /// Counts those before it only when all together are too many.
    fn comes_in_time(&self, place: Place) -> bool {
        let in_time = |signatures| self.pace.time_for(signatures) <= self.bounds.longest;
        in_time(self.queued) || in_time(self.waiting.range(..place).map(|(_, count)| count).sum())
    }

    fn overflows(&self, more: usize) -> bool {
        self.inside.len() >= self.bounds.requests || self.bytes + more > self.bounds.bytes
    }

    /// Whether enough goes when those that may be refused for this place are. Else nobody is refused for nothing.
    fn can_make_room(&self, place: Place, more: usize) -> bool {
        let (mut requests, mut bytes) = (self.inside.len(), self.bytes + more);
        for (_, guest) in self.to_refuse(place) {
            requests -= 1;
            bytes -= guest.ask.bytes;
            if requests < self.bounds.requests && bytes <= self.bounds.bytes {
                return true;
            }
        }
        false
    }

    /// Those that go after this place and may be refused, the last one first.
    fn to_refuse(&self, place: Place) -> impl Iterator<Item = (Place, &Guest<T>)> {
        let last_first = self.waiting.keys().rev().take_while(move |other| **other > place);
        last_first.filter_map(|other| {
            let guest = self.inside.get(&other.number)?;
            (!guest.ask.certain && !guest.begun).then_some((*other, guest))
        })
    }

    fn last_to_refuse(&self, place: Place) -> Option<Place> {
        self.to_refuse(place).next().map(|(place, _)| place)
    }

    fn refuse(&mut self, now: Instant, place: Place) -> Option<(T, Verdict)> {
        let guest = self.remove(place.number)?;
        self.unqueue(place);
        let later = self.promise(now, &guest.ask);
        Some((guest.token?, Verdict::Later(later)))
    }

    /// When the caller shall come again. Who has been told and comes too soon is told the same, so that nobody fills the calendar of others.
    fn promise(&mut self, now: Instant, ask: &Ask) -> Duration {
        if let Some(left) = self.promised.get(&ask.who).map(|at| *at - now)
            && !left.is_zero()
        {
            return left;
        }
        let later = self.pace.come_again(now, self.queued, ask.count, ask.needed_in);
        if self.promised.len() >= PROMISES {
            self.promised.retain(|_, at| *at > now);
        }
        if self.promised.len() < PROMISES {
            self.promised.insert(ask.who.clone(), now + later);
        }
        later
    }

    fn queue(&mut self, place: Place, count: usize) {
        self.queued += count;
        self.waiting.insert(place, count);
    }

    fn unqueue(&mut self, place: Place) -> bool {
        let count = self.waiting.remove(&place);
        self.queued -= count.unwrap_or(0);
        count.is_some()
    }

    fn remove(&mut self, number: u64) -> Option<Guest<T>> {
        let guest = self.inside.remove(&number)?;
        self.bytes -= guest.ask.bytes;
        if let Some(count) = self.of.get_mut(&guest.ask.who) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&guest.ask.who);
            }
        }
        Some(guest)
    }

    /// Calls those whose turn it is. A small one does not slip past a large one that is before it, which would wait for ever.
    fn call(&mut self) -> Told<T> {
        let mut told = Told::new();
        while let Some((&first, &count)) = self.waiting.first_key_value() {
            let units = units(count);
            if self.under_way > 0 && self.under_way + units > UNDER_WAY {
                break;
            }
            self.unqueue(first);
            self.under_way += units;
            let guest = self.inside.get_mut(&first.number);
            let token = guest.and_then(|guest| guest.token.take());
            told.extend(token.map(|token| (token, Verdict::Go)));
        }
        told
    }
}

/// What one request takes of what is served at a time: one for each eight signatures, so that large batches do not share the processor with
/// many others, and small ones come in numbers that fill a commit.
fn units(count: usize) -> usize {
    count.div_ceil(8).clamp(1, 16)
}

/// Units that are served at a time: four large batches, 64 single signatures.
const UNDER_WAY: usize = 64;
/// Of all requests one caller may have this part here.
const SHARES: usize = 64;
/// Callers whose time is remembered; further ones are told one all the same.
const PROMISES: usize = 65_536;
