//! Lines and the lengths on them: finds the end of a line across calls and looks at every byte once.

pub(super) const CRLF: &[u8; 2] = b"\r\n";

/// Looks for the end of one line after the other, and remembers where it stopped.
#[derive(Debug, Default)]
pub(super) struct LineScan {
    /// Bytes of the present line that have no LF.
    scanned: usize,
    /// Bytes looked at in all: the proof that nothing is read twice.
    #[cfg(test)]
    pub(super) examined: usize,
}

/// The line has no end within the limit.
#[derive(Debug)]
pub(super) struct LineTooLong;

impl LineScan {
    /// Where the LF of the line is that begins at `start`; `None` if it has not arrived.
    pub(super) fn find(
        &mut self,
        input: &[u8],
        start: usize,
        line_bytes_max: usize,
    ) -> Result<Option<usize>, LineTooLong> {
        let line = input.get(start..).unwrap_or_default();
        // A line of exactly the limit still has its LF behind it.
        let until = line.len().min(line_bytes_max.saturating_add(1));
        let unseen = line.get(self.scanned..until).unwrap_or_default();
        let found = unseen.iter().position(|&byte| byte == b'\n');
        #[cfg(test)]
        {
            self.examined += found.map_or(unseen.len(), |lf| lf + 1);
        }
        if let Some(lf) = found {
            let lf = start + self.scanned + lf;
            self.scanned = 0;
            return Ok(Some(lf));
        }
        self.scanned = until;
        if line.len() > line_bytes_max { Err(LineTooLong) } else { Ok(None) }
    }
}

/// A decimal number in its one and only spelling: no sign but a minus, no leading zero, no space, no `-0`.
pub(super) fn parse_length(digits: &[u8]) -> Option<i64> {
    let magnitude = digits.strip_prefix(b"-").unwrap_or(digits);
    match magnitude {
        b"0" if magnitude.len() == digits.len() => Some(0),
        [b'1'..=b'9', ..] => str::from_utf8(digits).ok()?.parse().ok(),
        _ => None,
    }
}
