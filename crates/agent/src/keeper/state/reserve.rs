//! The reserve: which rungs are to be had, and when one takes the place of what is held.
//!
//! Invariant: nothing is taken from a reserve because of this machine's clock, nor of one server's: what is over goes when servers have signed
//! what begins later for an hour. What the server takes away goes at once, and a rung says what its entry says, where one of those is valid.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{UnixTime, X509Svid};
use landfast_lifecycle::reserve::{self, Served, Window};

use super::{Action, Note, State};
use crate::entry::{Entry, EntryIndex};
use crate::keeper::rungs::{Ladder, Rung};

/// One rung to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RungOrder {
    pub(crate) entry: Arc<Entry>,
    pub(crate) not_before: UnixTime,
}

/// What came of asking for one.
pub(crate) struct IssuedRung {
    pub(crate) order: RungOrder,
    pub(crate) outcome: Result<Arc<X509Svid>, String>,
}

impl State {
    /// What to ask for now, what is needed soonest first; no more than is asked for at once.
    pub(super) fn rungs_due(&self, now: UnixTime) -> Vec<RungOrder> {
        if self.now.reading || self.reserve_is_full() {
            return Vec::new();
        }
        let mut due: Vec<RungOrder> = Vec::new();
        for entry in self.with_reserve(now) {
            let again = self
                .rung_refusals
                .of(&entry.id)
                .map(|refused| refused.again(false));
            if again.is_some_and(|again| now < again) {
                continue;
            }
            let missing = self.missing(entry, now);
            // The first one shows how long they live, and with that how many are needed.
            let most = if self.has_fitting(entry) { BATCH } else { 1 };
            let begins = missing.begins.into_iter().take(most);
            due.extend(begins.map(|not_before| RungOrder {
                entry: Arc::clone(entry),
                not_before,
            }));
        }
        due.sort_by(|a, b| (a.not_before, &a.entry.id).cmp(&(b.not_before, &b.entry.id)));
        due.truncate(BATCH);
        due
    }

    /// When there is something to ask for next.
    pub(crate) fn next_rung(&self, now: UnixTime) -> Option<UnixTime> {
        if self.now.reading || self.reserve_is_full() {
            return None;
        }
        let each = self.with_reserve(now).map(|entry| {
            let missing = self.missing(entry, now);
            let due = if missing.begins.is_empty() {
                missing.next
            } else {
                now
            };
            let again = self
                .rung_refusals
                .of(&entry.id)
                .map(|refused| refused.again(false));
            due.max(again.unwrap_or(due))
        });
        each.min()
    }

    /// Ordinary renewals come first: without one, nothing says how long a rung lives.
    fn with_reserve(&self, now: UnixTime) -> impl Iterator<Item = &Arc<Entry>> {
        let all = self.now.entries.iter();
        all.filter(move |entry| !self.length(entry).is_zero() && self.now.svid(entry, now).is_some())
    }

    /// How long its reserve shall last.
    fn length(&self, entry: &Entry) -> Duration {
        self.now.entries.offline(entry).reserve
    }

    fn missing(&self, entry: &Entry, now: UnixTime) -> reserve::Missing {
        let none = Ladder::default();
        let ladder = self.now.rungs.get(&entry.id).map_or(&none, |ladder| &**ladder);
        let of_now = |rung: &Rung| rung.is_of(entry);
        let held = self.now.held.get(&entry.id).map(|held| {
            let begins = held.svid.not_before().max(held.received());
            held.svid.not_after().since(begins)
        });
        let life = ladder.life(of_now).or(held).unwrap_or_default();
        let fit = ladder.rungs().iter().filter(|rung| of_now(rung));
        let windows: Vec<Window> = fit.map(|rung| rung.window()).collect();
        let mut length = self.length(entry);
        if let Some(end) = entry.expires_at {
            // Nothing is signed that outlasts its entry.
            let last = end.saturating_sub(life);
            if last < now {
                let begins = Vec::new();
                return reserve::Missing { begins, next: end };
            }
            length = length.min(last.since(now) + reserve::step(life));
        }
        reserve::missing(now, length, life, &windows)
    }

    fn has_fitting(&self, entry: &Entry) -> bool {
        let ladder = self.now.rungs.get(&entry.id);
        ladder.is_some_and(|ladder| ladder.rungs().iter().any(|rung| rung.is_of(entry)))
    }

    /// All of it together; more is not asked for.
    fn reserve_is_full(&self) -> bool {
        self.now.reserve_is_full(self.reserve_limit.unwrap_or(LARGEST))
    }

    /// Whether something is different.
    pub(super) fn adopt_rungs(
        &mut self,
        now: UnixTime,
        batch: Vec<IssuedRung>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let mut changed = false;
        for IssuedRung { order, outcome } in batch {
            let Some(entry) = self.now.entries.get(&order.entry.id).cloned() else {
                continue;
            };
            // Of what the entry was before.
            let same = entry.revision == order.entry.revision && entry.created_at == order.entry.created_at;
            if !same || self.length(&entry).is_zero() {
                continue;
            }
            match outcome.and_then(|svid| self.fitting(&svid, &order).map(|()| svid)) {
                Ok(svid) => {
                    self.rung_refusals.over(&entry.id);
                    let rung = Arc::new(Rung::new(&svid, entry.revision, now));
                    let ladders = Arc::make_mut(&mut self.now.rungs);
                    let ladder = ladders.entry(Arc::clone(&entry.id)).or_default();
                    *ladder = Arc::new(ladder.with([rung]));
                    changed = true;
                }
                Err(reason) => {
                    // All of one entry fail for one reason, and are waited for once.
                    let again = self
                        .rung_refusals
                        .of(&entry.id)
                        .map(|refused| refused.again(false));
                    if again.is_none_or(|again| again <= now) {
                        let next = self.rung_refusals.refused(&entry.id, now, false, None);
                        actions.push(Action::Note(Note::NoRung {
                            spiffe_id: entry.spiffe_id.to_string(),
                            reason,
                            next,
                        }));
                    }
                }
            }
            self.drop_outgrown(&entry, now);
        }
        changed
    }

    fn fitting(&self, svid: &X509Svid, order: &RungOrder) -> Result<(), String> {
        if svid.id() != &order.entry.spiffe_id {
            return Err(format!("the server sent an SVID for {} instead", svid.id()));
        }
        if order.not_before < svid.not_before() || svid.not_after() <= order.not_before {
            return Err(format!(
                "the server sent an SVID of another time: asked for from {}, valid from {} until {}",
                order.not_before,
                svid.not_before(),
                svid.not_after()
            ));
        }
        let rung = Rung::new(svid, order.entry.revision, order.not_before);
        match self
            .now
            .bundle
            .as_ref()
            .is_some_and(|bundle| rung.is_trusted_by(bundle))
        {
            true => Ok(()),
            false => Err(
                "the server signed with an authority that its bundle does not have, or names as tainted"
                    .to_owned(),
            ),
        }
    }

    /// What is of the entry before it was changed stays until its place is taken.
    fn drop_outgrown(&mut self, entry: &Entry, now: UnixTime) {
        if self.missing(entry, now).begins.is_empty() {
            self.retain_rungs(&entry.id, |rung| rung.is_of(entry));
        }
    }

    /// A server signed this a moment ago: what ended before it begins is spent, whatever the time is here. But its own time may be wrong, and
    /// this node the only one to hear it: it must still say so an hour later.
    pub(super) fn drop_spent(&mut self, entry: &Entry, signed: &X509Svid) {
        let begins = signed.not_before();
        let since = *self.signed.entry(Arc::clone(&entry.id)).or_insert(begins);
        if begins.since(since) >= BELIEVED {
            self.retain_rungs(&entry.id, |rung| rung.window().ends > since);
        }
        if begins < since || begins.since(since) >= BELIEVED {
            self.signed.insert(Arc::clone(&entry.id), begins);
        }
    }

    fn retain_rungs(&mut self, id: &Arc<str>, stays: impl Fn(&Rung) -> bool) {
        let ladders = &self.now.rungs;
        let Some(rest) = ladders.get(id).and_then(|ladder| ladder.retained(stays)) else {
            return;
        };
        let ladders = Arc::make_mut(&mut self.now.rungs);
        match rest.rungs().is_empty() {
            true => drop(ladders.remove(id)),
            false => drop(ladders.insert(Arc::clone(id), Arc::new(rest))),
        }
    }

    /// The entries are others: what is asked for no longer goes, and what would be given to nobody. `before` are those until now.
    pub(super) fn fit_rungs_to_entries(&mut self, before: &EntryIndex, now: UnixTime) {
        let entries = Arc::clone(&self.now.entries);
        let ids: Vec<Arc<str>> = self.now.rungs.keys().cloned().collect();
        for id in ids {
            // Made anew under the same ID it is another, and for the server all that the one before had is revoked.
            let same = |entry: &Arc<Entry>| {
                before
                    .get(&id)
                    .is_some_and(|old| old.created_at == entry.created_at)
            };
            let reserve = |entry: &Arc<Entry>| entries.offline(entry).reserve;
            let entry = entries.get(&id);
            let Some(entry) = entry.filter(|entry| same(entry) && !reserve(entry).is_zero()) else {
                self.retain_rungs(&id, |_| false);
                continue;
            };
            let length = reserve(entry);
            self.retain_rungs(&id, |rung| *rung.id() == entry.spiffe_id);
            // The server has said this a moment ago: the time is not that of this machine alone.
            let longer = before.get(&id).map_or(length, |old| before.offline(old).reserve);
            if length < longer {
                let far_end = now.saturating_add(length);
                self.retain_rungs(&id, |rung| rung.window().begins <= far_end);
            }
        }
        self.rung_refusals.retain(|id| {
            let both = before.get(id).zip(entries.get(id));
            both.is_some_and(|(old, new)| {
                let same = old.revision == new.revision && old.created_at == new.created_at;
                same && before.offline(old) == entries.offline(new)
            })
        });
        self.signed.retain(|id, _| entries.get(id).is_some());
    }

    /// The bundle is another: verifiers take nothing of an authority that is gone, and are not shown anything of a tainted one.
    pub(super) fn fit_rungs_to_bundle(&mut self) {
        let Some(bundle) = self.now.bundle.clone() else {
            return;
        };
        let ids: Vec<Arc<str>> = self.now.rungs.keys().cloned().collect();
        for id in ids {
            self.retain_rungs(&id, |rung| rung.is_trusted_by(&bundle));
        }
    }

    /// Rungs whose turn it is. Answers of which entries.
    pub(super) fn take_turns(&mut self, now: UnixTime, actions: &mut Vec<Action>) -> HashSet<Arc<str>> {
        let ladders = Arc::clone(&self.now.rungs);
        let mut changed = HashSet::new();
        for (id, ladder) in ladders.iter() {
            let Some(entry) = self.now.entries.get(id).filter(|entry| !entry.is_over(now)) else {
                continue;
            };
            let Some(next) = self.successor(entry, ladder, now) else {
                continue;
            };
            let rung = &ladder.rungs()[next];
            match rung.held() {
                Ok(held) => {
                    actions.push(Action::Note(Note::TookTurn {
                        spiffe_id: entry.spiffe_id.to_string(),
                        serial: held.svid.serial_hex(),
                        not_after: held.svid.not_after(),
                        left: ladder.ahead(now),
                    }));
                    changed.insert(Arc::clone(id));
                    Arc::make_mut(&mut self.now.held).insert(Arc::clone(id), Arc::new(held));
                }
                Err(error) => {
                    let reason = format!("a rung of its reserve cannot be used: {error}");
                    actions.push(Action::Note(Note::NoRung {
                        spiffe_id: entry.spiffe_id.to_string(),
                        reason,
                        next: now,
                    }));
                    let broken = rung.window();
                    self.retain_rungs(id, |rung| rung.window() != broken);
                }
            }
        }
        changed
    }

    /// Which rung takes the place of what is served: what says less than the entry says now, or what was taken away from it, only when there is
    /// nothing newer that is valid.
    fn successor(&self, entry: &Entry, ladder: &Ladder, now: UnixTime) -> Option<usize> {
        let (served, alone) = (self.served(entry, now), !self.in_contact);
        let numbered = ladder.rungs().iter().enumerate();
        let of_now: Vec<usize> = numbered
            .filter(|(_, rung)| rung.is_of(entry))
            .map(|(at, _)| at)
            .collect();
        let windows: Vec<Window> = of_now.iter().map(|at| ladder.windows()[*at]).collect();
        if let Some(next) = reserve::successor(now, served, alone, &windows) {
            return Some(of_now[next]);
        }
        let held = self.now.svid(entry, now);
        let newer = held.is_some_and(|held| held.revision == entry.revision)
            || reserve::turn(now, &windows).is_some();
        reserve::successor(now, served, alone, ladder.windows())
            .filter(|next| !newer && ladder.rungs()[*next].id() == &entry.spiffe_id)
    }

    /// When it may be somebody's turn next.
    pub(super) fn next_turn(&self, now: UnixTime) -> Option<UnixTime> {
        let each = self.now.rungs.iter().filter_map(|(id, ladder)| {
            let entry = self.now.entries.get(id)?;
            reserve::next_turn(now, self.served(entry, now), !self.in_contact, ladder.windows())
        });
        each.min()
    }

    fn served(&self, entry: &Entry, now: UnixTime) -> Option<Served> {
        self.now.svid(entry, now).map(|held| Served {
            window: held.window(),
            due: held.due(&self.taints),
        })
    }
}

/// As many as a server takes in one call.
pub(crate) const BATCH: usize = 64;
/// For so long servers must have signed by a time before something is spent by it.
const BELIEVED: Duration = Duration::from_secs(3600);
/// Of a whole node, as it lies on disk.
pub(crate) const LARGEST: u64 = 64 * 1024 * 1024;

#[cfg(test)]
mod tests;
