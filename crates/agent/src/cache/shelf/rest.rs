//! What an index does not need to be whole: the tokens, and that nothing lies about which nobody names.
//!
//! Invariant: no token is written beside an index that tells of an entry which is gone.

use super::{Image, Shelf, ShelfError, TOKENS, convert};

/// What the last write has put on the disk, whether or not it went well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wrote {
    /// The bytes of indexes.
    pub(crate) indexes: u64,
    /// Those of the tokens, if they were written.
    pub(crate) tokens: Option<u64>,
}

impl Shelf {
    pub(crate) fn wrote(&self) -> Wrote {
        self.wrote
    }

    /// Whether tokens are to be written that were not asked for: those on disk are gone, or could not be written.
    pub(crate) fn owes_tokens(&self, with_index: bool) -> bool {
        self.owes_tokens && (with_index || !self.stale)
    }

    pub(super) fn write_rest(&mut self, image: &Image, tokens: bool) -> Result<(), ShelfError> {
        // One that fails does not keep the other.
        let tokens = match tokens && !self.stale {
            true => self.write_tokens(image),
            false => Ok(()),
        };
        // Before an index is written, this is what the next one needs.
        let swept = match self.stale {
            true => Ok(()),
            false => self.sweep(),
        };
        tokens.and(swept)
    }

    fn write_tokens(&mut self, image: &Image) -> Result<(), ShelfError> {
        let store = self.store()?;
        let plain = convert::tokens_of(&image.tokens);
        if plain.is_empty() {
            store.remove(TOKENS)?;
            self.wrote.tokens = Some(0);
        } else {
            let sealed = self.sealer()?.seal(TOKENS, &plain)?;
            store.replace(TOKENS, &sealed)?;
            self.wrote.tokens = Some(sealed.len() as u64);
        }
        self.owes_tokens = false;
        Ok(())
    }
}
