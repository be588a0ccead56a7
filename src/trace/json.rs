//! Strings and times as JSON has them.

use std::fmt;

/// A string with its quotes. It can stand in a `<script>` too: no `<` is left.
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for c in self.0.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                // `</script>` and `<!--` would end the script; U+2028 and U+2029 end a
                // line of it.
                '<' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                _ => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

/// Nanoseconds as microseconds, without loss.
pub(super) struct Micros(pub(super) u128);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}
