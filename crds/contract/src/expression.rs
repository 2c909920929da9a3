//! How intricate a CEL expression may be. Parsers and interpreters of CEL recurse, and a text of a few dozen brackets in
//! brackets ends the process that reads it; both ends ask here before they parse.

/// Longest expression, in bytes; the schemas say the same.
pub const MAX_BYTES: usize = 1024;
/// Deepest nesting of brackets, and most conditionals. A thread of 2 MiB parses 8 levels in a debug build, and not 12.
const MAX_DEPTH: usize = 8;
/// Most operators, selections and brackets in all. A thread of 2 MiB evaluates a chain of 40 in a debug build, and not 64.
const MAX_PARTS: usize = 40;

/// An expression that is too long or too intricate to be read safely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "is too intricate: use at most {MAX_BYTES} bytes, {MAX_PARTS} operators and {MAX_DEPTH} brackets within each other"
)]
pub struct TooIntricate;

/// Checks an expression before it is parsed. What stands in string literals counts too: which quote ends a literal is for
/// the parser to know.
pub fn check_shape(source: &str) -> Result<(), TooIntricate> {
    let (mut depth, mut deepest, mut conditionals, mut parts) = (0_usize, 0, 0, 0);
    let mut previous = b' ';
    for byte in source.bytes() {
        match byte {
            b'(' | b'[' | b'{' => (depth, parts) = (depth + 1, parts + 1),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'?' => (conditionals, parts) = (conditionals + 1, parts + 1),
            b'.' | b'!' | b'-' | b'+' | b'*' | b'/' | b'%' => parts += 1,
            // `&&`, `==`, `<=` and `!=` are one operator each.
            b'&' | b'|' | b'=' | b'<' | b'>' if !matches!(previous, b'&' | b'|' | b'=' | b'<' | b'>' | b'!') => {
                parts += 1;
            }
            _ => {}
        }
        previous = byte;
        deepest = deepest.max(depth);
    }
    if source.len() <= MAX_BYTES && deepest <= MAX_DEPTH && conditionals <= MAX_DEPTH && parts <= MAX_PARTS {
        Ok(())
    } else {
        Err(TooIntricate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_expressions_pass_and_towers_do_not() {
        let honest = "request.method in ['POST', 'PUT'] && request.path.startsWith('/payments') && !('ADMIN' in auth.roles) \
                      && (request.ip == '10.0.0.1' || request.headers['x-device'] != '')";
        assert_eq!(check_shape(honest), Ok(()));
        for tower in ["(".repeat(9), "a?b:".repeat(9) + "c", "a+".repeat(41) + "a", "!".repeat(41), "a".repeat(1025)] {
            assert_eq!(check_shape(&tower), Err(TooIntricate), "{tower}");
        }
        // A bracket that was closed is not a level, and an unopened one is the parser's to refuse.
        assert_eq!(check_shape(&"()".repeat(9)), Ok(()));
        assert_eq!(check_shape(")"), Ok(()));
    }
}
