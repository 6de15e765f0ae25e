//! Which server of the list is asked.
//!
//! Invariant: the first one, unless it has just been of no use, or its connection broke: then the next, each once a turn; whoever served is
//! kept until its connection ends (servers end them by age), and then the first is asked again.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct Rota {
    servers: usize,
    /// Where the next dial begins.
    begin: usize,
    /// Where the last one ended.
    at: usize,
    /// How many more may be asked in this turn.
    left: usize,
    /// Those that were given up in this turn were so because what they sign is of another time.
    only_clocks: bool,
    /// What each of them signs is of another time, as far as is known: until then this is no reason to ask another.
    of_another_time: Option<Instant>,
}

impl Rota {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            servers,
            begin: 0,
            at: 0,
            left: 0,
            only_clocks: true,
            of_another_time: None,
        }
    }

    pub(super) fn turn_begins(&mut self) {
        self.left = self.servers.saturating_sub(1);
        self.only_clocks = true;
    }

    pub(super) fn begin(&self) -> usize {
        self.begin
    }

    pub(super) fn reached(&mut self, server: usize) {
        self.at = server;
    }

    /// The server reached last.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Whether another server may be asked in this turn.
    pub(super) fn has_another(&self) -> bool {
        self.left > 0
    }

    /// The server reached last is of no use, maybe because of a clock.
    pub(super) fn go_on(&mut self, clock: bool) {
        self.only_clocks &= clock;
        self.left = self.left.saturating_sub(1);
        self.begin = (self.at + 1) % self.servers.max(1);
    }

    /// What the server reached last signs is of another time, and it was the last one to ask.
    pub(super) fn last_is_of_another_time(&mut self) {
        if self.left == 0 && self.only_clocks {
            self.of_another_time = Some(Instant::now() + NOT_AGAIN);
        }
    }

    /// A server signs what is valid now.
    pub(super) fn is_of_now(&mut self) {
        self.of_another_time = None;
    }

    pub(super) fn is_of_another_time(&self) -> bool {
        self.of_another_time.is_some_and(|until| Instant::now() < until)
    }

    /// The connection to the server reached last broke without a word: the next dial begins with another.
    pub(super) fn pass_over(&mut self) {
        self.begin = (self.at + 1) % self.servers.max(1);
    }

    /// The server reached last has served; the dial after its connection begins with the first.
    pub(super) fn served(&mut self) {
        self.begin = 0;
    }
}

/// As long as the longest wait after a refusal.
const NOT_AGAIN: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn when_all_are_of_another_time_no_other_is_asked_for_a_while() {
        let mut rota = Rota::new(3);
        let mut turn = |reasons: [bool; 2]| {
            rota.turn_begins();
            for clock in reasons {
                rota.go_on(clock);
            }
            rota.last_is_of_another_time();
            rota.is_of_another_time()
        };
        assert!(!turn([true, false]), "one of them may do when it can again");
        assert!(turn([true, true]));
        tokio::time::advance(NOT_AGAIN).await;
        assert!(!rota.is_of_another_time(), "nothing is believed for ever");
        rota.turn_begins();
        rota.go_on(true);
        rota.last_is_of_another_time();
        assert!(!rota.is_of_another_time(), "there is another");
        rota.go_on(true);
        rota.last_is_of_another_time();
        assert!(rota.is_of_another_time());
        rota.is_of_now();
        assert!(!rota.is_of_another_time());
    }

    #[test]
    fn each_is_asked_once_a_turn_and_the_first_again_after_one_that_served() {
        let mut rota = Rota::new(3);
        rota.turn_begins();
        for at in 0..2 {
            assert_eq!((rota.begin(), rota.has_another()), (at, true));
            rota.reached(at);
            rota.go_on(false);
        }
        assert_eq!((rota.begin(), rota.has_another()), (2, false));
        // The third is dead: the dial goes round to the first.
        rota.reached(0);
        rota.turn_begins();
        rota.go_on(false);
        assert_eq!(rota.begin(), 1);
        rota.reached(1);
        rota.served();
        assert_eq!(rota.begin(), 0);
    }

    #[test]
    fn of_one_server_there_is_no_other() {
        let mut rota = Rota::new(1);
        rota.turn_begins();
        assert!(!rota.has_another());
        rota.go_on(false);
        assert_eq!(rota.begin(), 0);
    }
}
