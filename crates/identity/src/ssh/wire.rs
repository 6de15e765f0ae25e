//! The data types of RFC 4251 §5. Invariant: what is read was there, and an integer has one spelling.

use super::SshError;

/// What is left to be read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], SshError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SshError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, SshError> {
        self.take(1)?.first().copied().ok_or(SshError::Malformed)
    }

    pub(super) fn number(&mut self) -> Result<u32, SshError> {
        let bytes = self.take(4)?.try_into().map_err(|_short| SshError::Malformed)?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], SshError> {
        let length = self.number()?;
        self.take(usize::try_from(length).map_err(|_large| SshError::Malformed)?)
    }

    pub(super) fn text(&mut self) -> Result<&'a str, SshError> {
        std::str::from_utf8(self.string()?).map_err(|_no_text| SshError::Malformed)
    }

    /// A non-negative `mpint`, in so many bytes.
    pub(super) fn scalar(&mut self, width: usize) -> Result<Vec<u8>, SshError> {
        let bytes = self.string()?;
        let digits = match bytes {
            // A zero in front is there for the sign and for nothing else.
            [0, rest @ ..] if rest.first().is_some_and(|first| first & 0x80 != 0) => rest,
            [first, ..] if *first != 0 && first & 0x80 == 0 => bytes,
            _ => return Err(SshError::Malformed),
        };
        let missing = width.checked_sub(digits.len()).ok_or(SshError::Malformed)?;
        Ok([&vec![0; missing], digits].concat())
    }

    pub(super) fn end(self) -> Result<(), SshError> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(SshError::Malformed),
        }
    }
}

/// With its length in front.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// As an `mpint`.
pub(super) fn scalar(out: &mut Vec<u8>, bytes: &[u8]) {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let digits = bytes.get(first..).unwrap_or_default();
    let sign: &[u8] = match digits.first() {
        Some(first) if first & 0x80 != 0 => &[0],
        _ => &[],
    };
    string(out, &[sign, digits].concat());
}
