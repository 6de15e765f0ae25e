//! Servers that are wrong, or are somebody else who has their key.

use super::*;

/// A node that was told at `DAY`, off for six hours, and has a clock of its own that is right; a server is three days ahead.
struct Met {
    times: Times,
    begun: i64,
}

impl Met {
    fn after(off: i64) -> Self {
        let mut times = Times::begin(boot("b", 30), Some(&told(DAY).record(secs(0))));
        let begun = DAY + off;
        let leap = times.hear(
            after(begun + 3 * DAY),
            Heard::Answer,
            Some(after(begun)),
            secs(30),
        );
        assert!(matches!(leap, Verdict::Doubted(_)), "{leap:?}");
        Self { times, begun }
    }

    /// The wall clock and the server go on as they began.
    fn on(&mut self, past: u64) -> Judged {
        let gone = i64::try_from(past).unwrap();
        let (wall, elapsed) = (Some(after(self.begun + gone)), secs(30 + past));
        self.times
            .hear(after(self.begun + 3 * DAY + gone), Heard::Answer, wall, elapsed);
        self.times.judge(wall, elapsed)
    }

    fn wall(&self, past: u64) -> UnixTime {
        after(self.begun + i64::try_from(past).unwrap())
    }
}

#[test]
fn a_wall_clock_that_was_right_holds_for_an_hour_against_the_first_server_of_a_boot_and_the_floor_for_a_day()
{
    for off in [400, 6 * 3600] {
        let mut met = Met::after(off);
        for past in (0..HOUR).step_by(600) {
            let judged = met.on(past);
            assert_eq!(
                (judged.now, judged.estimated, judged.wrong),
                (met.wall(past), false, None)
            );
            let (wall, elapsed) = (Some(met.wall(past)), secs(30 + past));
            assert_eq!(met.times.doubted(wall, elapsed), Some(secs(3 * 86_400)));
            assert!(
                !met.times.can_go_back(wall, elapsed),
                "the wall clock counts, and nobody is asked at another time"
            );
        }
        for past in (HOUR..DAY.unsigned_abs()).step_by(600) {
            let judged = met.on(past);
            let server = met.wall(past).saturating_add(secs(3 * 86_400));
            assert_eq!((judged.now, judged.estimated), (server, true));
            assert_eq!(met.times.floor(), after(DAY));
        }
        // The server is mended in time: all is as before.
        let mut mended = met.times.clone();
        let (wall, elapsed) = (met.wall(86_399), secs(30 + 86_399));
        mended.hear(wall, Heard::Answer, Some(wall), elapsed);
        let judged = mended.judge(Some(wall), elapsed);
        assert_eq!(
            (judged.now, judged.estimated, mended.floor()),
            (wall, false, after(DAY))
        );
        met.on(86_400);
        assert_eq!(met.times.floor(), met.wall(4 * 86_400));
    }
}

/// A clock without power shows where that failed, at each start: it was wrong before, and is so again.
#[test]
fn a_wall_clock_that_was_wrong_when_a_server_last_said_the_time_holds_nothing_up() {
    let mut times = told(DAY);
    for (clock, off) in [(-7200, 600), (-151, 7200), (600, 7200)] {
        times.hear(after(DAY), Heard::Answer, Some(after(DAY + clock)), secs(0));
        let mut times = Times::begin(boot("b", 0), Some(&times.record(secs(0))));
        let (said, wall) = (after(DAY + off), Some(after(DAY + 10)));
        let verdict = times.hear(said, Heard::Answer, wall, secs(0));
        assert!(matches!(verdict, Verdict::Adopted(_)), "{clock}: {verdict:?}");
        assert_eq!(times.judge(wall, secs(0)).now, said);
    }
}

#[test]
fn of_a_node_that_was_never_told_the_clock_is_what_the_image_was_made_at() {
    let mut times = new();
    let image = after(9 * DAY);
    times.hear(after(100 * DAY), Heard::Answer, Some(image), secs(0));
    assert_eq!(times.judge(Some(image), secs(0)).now, after(100 * DAY));
}

/// ... but where a server has agreed with it.
#[test]
fn a_wall_clock_that_one_server_agrees_with_is_heard_against_the_next() {
    let mut times = new();
    let clock = Some(after(9 * DAY));
    times.hear(after(9 * DAY), Heard::Answer, clock, secs(0));
    let verdict = times.hear(after(100 * DAY), Heard::Answer, clock, secs(0));
    assert!(matches!(verdict, Verdict::Doubted(_)), "{verdict:?}");
    assert!(!times.judge(clock, secs(0)).estimated);
    // A node without a clock goes by the last word until one is confirmed, and the floor by none.
    let mut times = new();
    for days in [9, 100, 9, 50] {
        times.hear(after(days * DAY), Heard::Answer, None, secs(0));
        assert_eq!(times.judge(None, secs(0)).now, after(days * DAY));
    }
    assert_eq!(times.floor(), BUILT);
}

#[test]
fn a_server_that_stays_ahead_is_not_believed_for_a_day_while_the_wall_clock_and_what_was_said_before_are_at_one()
 {
    let ahead = |past: u64| after(4 * DAY + i64::try_from(past).unwrap());
    let right = |past: u64| after(DAY + i64::try_from(past).unwrap());
    let mut times = told(DAY);
    for past in (0..DAY.unsigned_abs()).step_by(600) {
        let verdict = times.hear(ahead(past), Heard::Answer, Some(right(past)), secs(past));
        assert!(matches!(verdict, Verdict::Doubted(_)), "{past}: {verdict:?}");
        assert_eq!(times.floor(), after(DAY));
    }
    let past = DAY.unsigned_abs();
    for clock in [right(past), ahead(past)] {
        let mut times = times.clone();
        let verdict = times.hear(ahead(past), Heard::Answer, Some(clock), secs(past));
        assert!(matches!(verdict, Verdict::Adopted(_)), "{verdict:?}");
        assert_eq!(times.floor(), ahead(past), "and what was said, no more");
    }
    let past = past - 1;
    let verdict = times.hear(ahead(past), Heard::Answer, Some(ahead(past)), secs(past));
    assert!(
        matches!(verdict, Verdict::Adopted(_)),
        "no clock is against it: {verdict:?}"
    );
}

/// One who was heard for an hour, and again a day later, is not one who was heard for a day.
#[test]
fn a_day_is_a_day_of_voices() {
    let mut times = told(DAY);
    let mut verdict = Verdict::Agreed;
    for past in (0..=HOUR)
        .step_by(600)
        .chain((DAY.unsigned_abs()..).step_by(600).take(16))
    {
        let gone = i64::try_from(past).unwrap();
        let (said, wall) = (after(5 * DAY + gone), Some(after(DAY + gone)));
        verdict = times.hear(said, Heard::Answer, wall, secs(past));
    }
    assert!(matches!(verdict, Verdict::Doubted(_)), "{verdict:?}");
}

#[test]
fn a_first_and_a_last_voice_are_not_an_hour() {
    let mut times = told(DAY);
    times.hear(after(5 * DAY), Heard::Answer, None, secs(0));
    let last = times.hear(after(5 * DAY + 3600), Heard::Answer, None, secs(HOUR));
    assert!(matches!(last, Verdict::Doubted(_)), "{last:?}");
    let mut first = Times::begin(boot("b", 0), Some(&told(DAY).record(secs(0))));
    first.hear(after(5 * DAY), Heard::Answer, None, secs(0));
    first.hear(after(5 * DAY + 3600), Heard::Answer, None, secs(HOUR));
    assert_eq!(first.floor(), after(DAY));
}

#[test]
fn nobody_takes_a_node_back_below_what_it_knew_before_the_first_time() {
    let mut times = Times::begin(boot("b", 0), Some(&told(400 * DAY).record(secs(5000))));
    times.hear(after(700 * DAY), Heard::Answer, None, secs(1000));
    let known = after(400 * DAY + 5000 + 1000 + 600);
    assert_eq!(times.least(secs(1600)), known);
    // Over another boot, too.
    let again = Times::begin(boot("c", 7), Some(&times.record(secs(1600))));
    assert_eq!((again.least(secs(7)), again.floor()), (known, after(400 * DAY)));
    assert_eq!(again.estimate(secs(7)), after(700 * DAY + 600));
    for (mut times, elapsed) in [(times, secs(1600)), (again, secs(7))] {
        assert!(times.can_go_back(None, elapsed));
        let before = times.clone();
        let low = UnixTime::from_secs(known.as_secs() - 301);
        assert_eq!(
            times.hear(low, Heard::Answer, None, elapsed),
            Verdict::BelowFloor(secs(301))
        );
        assert_eq!(times.estimate(elapsed), before.estimate(elapsed));
        let least = UnixTime::from_secs(known.as_secs() - 300);
        assert_eq!(times.hear(least, Heard::Answer, None, elapsed), Verdict::Agreed);
        assert_eq!(
            (times.estimate(elapsed), times.can_go_back(None, elapsed)),
            (least, false)
        );
    }
}

#[test]
fn small_steps_are_one_leap() {
    let mut times = told(DAY);
    let mut verdict = Verdict::Agreed;
    for step in 1..=3 {
        verdict = times.hear(after(DAY + 299 * step), Heard::Answer, None, secs(0));
    }
    assert!(matches!(verdict, Verdict::Doubted(_)), "{verdict:?}");
    assert_eq!(times.floor(), after(DAY + 299));
}

#[test]
fn small_steps_over_restarts_are_one_leap() {
    let mut times = told(DAY);
    for step in 1..=3 {
        times.hear(after(DAY + 299 * step), Heard::Answer, None, secs(0));
        times = Times::begin(boot("a", 0), Some(&times.record(secs(0))));
    }
    assert_eq!(times.floor(), after(DAY + 299));
}

#[test]
fn a_message_that_was_under_way_confirms_nothing() {
    let mut times = Times::begin(boot("b", 0), Some(&told(DAY).record(secs(0))));
    times.hear(after(9 * DAY), Heard::Answer, None, secs(0));
    for past in (600..3 * HOUR).step_by(600) {
        times.hear(after(2 * DAY), Heard::Message, None, secs(past));
        assert_eq!(times.floor(), after(DAY));
    }
    // Nor does it take back what answers say.
    let mut elapsed = 3 * HOUR;
    while elapsed < 5 * HOUR {
        let said = times.estimate(secs(elapsed));
        times.hear(said, Heard::Answer, None, secs(elapsed));
        times.hear(after(2 * DAY), Heard::Message, None, secs(elapsed));
        elapsed += 600;
    }
    assert!(times.floor() > after(9 * DAY));
}
