//! Wire protocols as plain types: bytes in, messages out, and back.
