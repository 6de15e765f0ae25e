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
        assert!(matches!(leap, Verdict::Adopted(_)), "{leap:?}");
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
fn a_wall_clock_that_is_right_is_not_overruled_by_the_first_server_of_a_boot() {
    let mut met = Met::after(6 * 3600);
    for past in (0..3 * 86_400).step_by(600) {
        let judged = met.on(past);
        assert_eq!(
            (judged.now, judged.estimated, judged.wrong),
            (met.wall(past), false, None)
        );
        assert_eq!(met.times.floor(), after(DAY));
    }
    let (wall, elapsed) = (Some(met.wall(300_000)), secs(300_030));
    assert_eq!(met.times.doubted(wall, elapsed), Some(secs(3 * 86_400)));
    assert!(
        !met.times.can_go_back(wall, elapsed),
        "the wall clock counts, and nobody is asked at another time"
    );
}

/// What the system set it to for the lack of a clock is no other voice: but only an hour shows that.
#[test]
fn a_wall_clock_that_goes_on_from_where_the_power_failed_holds_for_an_hour_and_the_floor_for_a_day() {
    let mut met = Met::after(400);
    for past in (0..HOUR).step_by(600) {
        assert_eq!(met.on(past).now, met.wall(past));
    }
    let judged = met.on(HOUR);
    assert_eq!(
        (judged.now, judged.estimated),
        (after(met.begun + 3 * DAY + 3600), true)
    );
    met.on(86_399);
    assert_eq!(met.times.floor(), after(DAY));
    met.on(86_400);
    assert_eq!(met.times.floor(), after(met.begun + 4 * DAY));
}

#[test]
fn of_a_node_that_was_never_told_the_clock_is_what_the_image_was_made_at() {
    let mut times = new();
    let image = after(9 * DAY);
    times.hear(after(100 * DAY), Heard::Answer, Some(image), secs(0));
    assert_eq!(times.judge(Some(image), secs(0)).now, after(100 * DAY));
}

#[test]
fn a_server_that_stays_ahead_is_not_believed_while_the_wall_clock_and_what_was_said_before_are_at_one() {
    let mut times = told(DAY);
    let ahead = |past: u64| after(4 * DAY + i64::try_from(past).unwrap());
    let right = |past: u64| after(DAY + i64::try_from(past).unwrap());
    for past in (0..30 * HOUR).step_by(600) {
        let verdict = times.hear(ahead(past), Heard::Answer, Some(right(past)), secs(past));
        assert!(matches!(verdict, Verdict::Doubted(_)), "{past}: {verdict:?}");
        assert_eq!(times.floor(), after(DAY));
    }
    let past = 30 * HOUR;
    let elsewhere = Some(ahead(past));
    let verdict = times.hear(ahead(past), Heard::Answer, elsewhere, secs(past));
    assert!(matches!(verdict, Verdict::Adopted(_)), "no veto: {verdict:?}");
    assert_eq!(times.floor(), ahead(past), "and what was said, no more");
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
    let before = times.clone();
    let low = UnixTime::from_secs(known.as_secs() - 301);
    assert_eq!(
        times.hear(low, Heard::Answer, None, secs(1600)),
        Verdict::BelowFloor(secs(301))
    );
    assert_eq!(times.estimate(secs(1600)), before.estimate(secs(1600)));
    let least = UnixTime::from_secs(known.as_secs() - 300);
    assert_eq!(
        times.hear(least, Heard::Answer, None, secs(1600)),
        Verdict::Agreed
    );
    assert_eq!(times.estimate(secs(1600)), known);
    // Over another boot, too, and not for ever.
    let again = Times::begin(boot("c", 7), Some(&before.record(secs(1600))));
    assert_eq!(again.least(secs(7)), known);
    assert!(again.can_go_back(None, secs(86_406)) && !again.can_go_back(None, secs(86_407)));
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

proptest! {
    /// Whoever speaks, and however often: in an hour the floor gains no more than the skew on the boot clock, but for a leap that stayed so for an hour.
    #[test]
    fn the_floor_rises_with_the_boot_clock(
        steps in proptest::collection::vec((0u64..900, -400i64..301, any::<bool>()), 1..300),
    ) {
        let (mut times, mut elapsed) = (told(DAY), 0u64);
        let (mut leapt, mut doubted_since) = (Duration::ZERO, None);
        for (by, offset, answer) in steps {
            elapsed += by;
            let estimate = times.estimate(secs(elapsed)).as_secs();
            let heard = if answer { Heard::Answer } else { Heard::Message };
            match times.hear(UnixTime::from_secs(estimate + offset), heard, None, secs(elapsed)) {
                Verdict::Doubted(_) => {
                    doubted_since.get_or_insert(elapsed);
                }
                Verdict::Adopted(leap) => {
                    let since = doubted_since.take();
                    prop_assert!(since.is_some_and(|since| secs(elapsed - since) >= CONFIRMED_AFTER));
                    leapt += leap;
                }
                Verdict::Agreed | Verdict::BelowFloor(_) => {
                    if times.doubted.is_none() {
                        doubted_since = None;
                    }
                }
            }
            let most = secs(elapsed) + SKEW * u32::try_from(1 + elapsed / HOUR).unwrap() + leapt;
            prop_assert!(times.floor() <= after(DAY).saturating_add(most));
        }
    }
}
