//! Which server of the list is asked.
//!
//! Invariant: the first one, unless it has just been of no use: then the next, each once a turn; whoever served is kept until its
//! connection ends (servers end them by age), and then the first is asked again.

#[derive(Debug)]
pub(super) struct Rota {
    servers: usize,
    /// Where the next dial begins.
    begin: usize,
    /// Where the last one ended.
    at: usize,
    /// How many more may be asked in this turn.
    left: usize,
}

impl Rota {
    pub(super) fn new(servers: usize) -> Self {
        Self {
            servers,
            begin: 0,
            at: 0,
            left: 0,
        }
    }

    pub(super) fn turn_begins(&mut self) {
        self.left = self.servers.saturating_sub(1);
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

    /// The server reached last is of no use.
    pub(super) fn go_on(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.begin = (self.at + 1) % self.servers.max(1);
    }

    /// The server reached last has served; the dial after its connection begins with the first.
    pub(super) fn served(&mut self) {
        self.begin = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_asked_once_a_turn_and_the_first_again_after_one_that_served() {
        let mut rota = Rota::new(3);
        rota.turn_begins();
        for at in 0..2 {
            assert_eq!((rota.begin(), rota.has_another()), (at, true));
            rota.reached(at);
            rota.go_on();
        }
        assert_eq!((rota.begin(), rota.has_another()), (2, false));
        // The third is dead: the dial goes round to the first.
        rota.reached(0);
        rota.turn_begins();
        rota.go_on();
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
        rota.go_on();
        assert_eq!(rota.begin(), 0);
    }
}
