//! A node over true time: its crystals drift, its power fails, and servers say what they like.

use super::*;

/// Times are seconds after the build date.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) times: Times,
    pub(super) truth: i64,
    /// Of the boot clock and of the wall clock: how far they have run, in microseconds.
    boot: i64,
    wall: Option<i64>,
    /// Millionths by which both clocks are slow: it is one crystal.
    pub(super) slow: i64,
    boots: u32,
}

impl Node {
    /// One whose clock is right, and that servers have told so.
    pub(super) fn right() -> Self {
        let mut node = Self {
            times: new(),
            truth: 10 * DAY,
            boot: 0,
            wall: Some(10 * DAY * MICROS),
            slow: 0,
            boots: 0,
        };
        node.listen(0, 7200);
        assert_eq!(node.times.floor(), after(node.truth));
        node
    }

    pub(super) fn wall(&self) -> Option<UnixTime> {
        self.wall.map(|wall| after(wall.div_euclid(MICROS)))
    }

    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.boot.unsigned_abs())
    }

    /// By so much the wall clock is ahead from now on, or absent.
    pub(super) fn set_clock(&mut self, ahead: Option<i64>) {
        self.wall = ahead.map(|ahead| (self.truth + ahead) * MICROS);
    }

    pub(super) fn pass(&mut self, secs: i64) {
        let ran = secs * (MICROS - self.slow);
        self.truth += secs;
        self.boot += ran;
        self.wall = self.wall.map(|wall| wall + ran);
    }

    /// A server that is ahead by so much answers.
    pub(super) fn hear(&mut self, ahead: i64) -> Verdict {
        let (said, elapsed) = (after(self.truth + ahead), self.elapsed());
        self.times.hear(said, Heard::Answer, self.wall(), elapsed)
    }

    /// It answers every ten minutes.
    pub(super) fn listen(&mut self, ahead: i64, secs: i64) {
        self.hear(ahead);
        let end = self.truth + secs;
        while self.truth < end {
            self.pass(600.min(end - self.truth));
            self.hear(ahead);
        }
    }

    /// The power fails, for so long; a clock with a battery goes on.
    pub(super) fn off(&mut self, secs: i64) {
        let record = self.times.record(self.elapsed());
        self.pass(secs);
        (self.boot, self.boots) = (30 * MICROS, self.boots + 1);
        self.times = Times::begin(boot(&format!("boot {}", self.boots), 30), Some(&record));
    }

    pub(super) fn judge(&self) -> Judged {
        self.times.judge(self.wall(), self.elapsed())
    }

    /// By how much the time that counts is ahead.
    pub(super) fn error(&self) -> i64 {
        self.judge().now.as_secs() - after(self.truth).as_secs()
    }

    /// By how much the floor is.
    pub(super) fn floor_ahead(&self) -> i64 {
        self.times.floor().as_secs() - after(self.truth).as_secs()
    }
}

const MICROS: i64 = 1_000_000;

#[test]
fn a_clock_that_lost_minutes_while_the_power_was_off_is_overruled_by_a_server_that_is_right() {
    for (off, slow) in [(365 * DAY, 630), (3 * DAY, 3600), (3 * DAY, DAY)] {
        let mut node = Node::right();
        node.off(off);
        node.set_clock(Some(-slow));
        node.listen(0, DAY);
        assert_eq!((node.error(), node.judge().estimated), (0, true), "{off}");
        assert_eq!(node.floor_ahead(), 0);
        node.off(DAY);
        node.hear(0);
        assert_eq!(node.error(), 0, "{off}: it is known that this clock is not right");
    }
}

#[test]
fn a_clock_that_is_set_back_when_a_server_has_agreed_with_it_revives_nothing() {
    for back in [7200, 20 * DAY] {
        let mut node = Node::right();
        node.off(30 * DAY);
        node.hear(0);
        node.set_clock(Some(-back));
        assert_eq!((node.error(), node.judge().estimated), (0, true));
        node.hear(0);
        assert_eq!((node.error(), node.judge().estimated), (0, true));
        // Not with the help of a server that is ahead.
        let verdict = node.hear(DAY);
        assert!(matches!(verdict, Verdict::Adopted(_)), "{verdict:?}");
        assert_eq!(node.error(), DAY);
    }
}

#[test]
fn ninety_days_alone_with_a_slow_crystal_end_with_the_first_answer() {
    let mut node = Node::right();
    node.slow = 50;
    node.pass(90 * DAY);
    assert_eq!(node.error(), -389);
    assert_eq!(node.hear(0), Verdict::Agreed);
    assert_eq!((node.error(), node.floor_ahead()), (0, 0));
}

#[test]
fn of_a_machine_that_was_paused_both_clocks_stood_still_and_a_day_of_answers_says_so() {
    let mut node = Node::right();
    node.truth += 6 * 3600;
    node.listen(0, DAY - 600);
    assert_eq!(node.error(), -6 * 3600);
    node.listen(0, 600);
    assert_eq!((node.error(), node.floor_ahead()), (0, 0));
}

#[test]
fn a_server_that_is_set_wrong_a_second_time_does_not_raise_the_floor_over_a_right_clock() {
    let mut node = Node::right();
    node.off(6 * 3600);
    node.listen(3 * DAY, 1200);
    node.listen(4 * DAY, 20 * 3600);
    assert_eq!(node.hear(0), Verdict::Adopted(secs(6 * 3600)));
    assert!(node.floor_ahead() < 0);
    assert_eq!((node.error(), node.judge().estimated), (0, false));
    node.listen(0, 3600);
    assert_eq!(node.floor_ahead(), 0);
}

#[test]
fn what_one_answer_said_before_a_long_outage_can_be_taken_back_after_it() {
    let mut node = Node::right();
    node.off(3600);
    node.set_clock(None);
    node.hear(3000 * DAY);
    node.pass(40 * DAY);
    assert!(node.times.can_go_back(None, node.elapsed()));
    node.hear(0);
    assert_eq!(node.error(), 0);
}

#[test]
fn a_server_that_is_days_behind_takes_nothing_back() {
    for (clock, long) in [(None, 3600), (Some(0), DAY)] {
        let mut node = Node::right();
        node.pass(8 * DAY);
        node.set_clock(clock);
        let behind = Verdict::BelowFloor(secs(7 * 86_400));
        assert_eq!(node.hear(-7 * DAY), behind);
        node.listen(-7 * DAY, long - 600);
        assert_eq!((node.error(), node.judge().wrong.is_some()), (0, clock.is_none()));
        assert_eq!(node.times.below_floor(), Some(secs(7 * 86_400)));
        // It is the boot clock that was wrong. Below the floor nobody is believed.
        node.listen(-7 * DAY, 600);
        let (least, elapsed) = (node.times.least(node.elapsed()), node.elapsed());
        assert_eq!(least, after(node.truth - 7 * DAY));
        assert_eq!(node.times.below_floor(), None);
        let low = UnixTime::from_secs(node.times.floor().as_secs() - 301);
        for past in (0..2 * DAY.unsigned_abs()).step_by(600) {
            let verdict = node.times.hear(low, Heard::Answer, None, elapsed + secs(past));
            assert_eq!(verdict, Verdict::BelowFloor(secs(301)));
        }
    }
}

/// Ten minutes, for an hour, when the node had nothing else: that is over when the floor is.
#[test]
fn a_server_that_was_ahead_for_too_long_is_gone_by_again_when_its_time_has_come() {
    let mut node = Node::right();
    node.off(DAY);
    node.set_clock(None);
    node.listen(600, 3600);
    assert_eq!((node.error(), node.floor_ahead()), (600, 600));
    node.listen(0, 4200);
    assert_eq!(node.error(), 0);
}

/// What is kept was removed, as the documentation says, and the next server is wrong as well.
#[test]
fn a_node_that_knows_nothing_believes_the_first_server_but_its_floor_waits_for_a_day_against_its_clock() {
    let mut node = Node::right();
    node.times = Times::begin(boot("another", 30), None);
    node.listen(3 * DAY, DAY - 600);
    assert_eq!((node.error(), node.times.floor()), (3 * DAY, BUILT));
    node.hear(0);
    assert_eq!((node.error(), node.judge().wrong), (0, None));
}
