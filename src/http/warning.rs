//! Values of the Warning header field (RFC 7234 §5.5).

/// A Warning value with a text, in the characters that a field may hold.
pub(in crate::http) fn warning(text: &str) -> String {
    let printable = |c: char| {
        if c == '"' || c == '\\' {
            '\''
        } else if (' '..='~').contains(&c) {
            c
        } else {
            '?'
        }
    };
    format!("299 cuspid \"{}\"", text.chars().map(printable).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_a_field_may_not_hold_are_replaced() {
        assert_eq!(warning("a \"b\\\" é\r\n"), "299 cuspid \"a 'b'' ???\"");
    }
}
