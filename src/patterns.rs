//! Patterns of `*` and `?`, as OpenSSH has them.

/// Whether a comma-separated list of patterns has `text`, and none that begins with `!` does.
pub(crate) fn list_matches(list: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in list.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(denied) if matches(denied, text) => return false,
            Some(_) => {}
            None => found |= matches(pattern, text),
        }
    }
    found
}

/// Whether `text` fits a pattern of `*` and `?`; the work is at most the product of their lengths.
pub(crate) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_and_lists() {
        for (list, fits) in [
            ("pannier-commit-v1", true),
            ("git,pannier-*", true),
            ("*", true),
            ("pannier-commit-v?", true),
            ("git,file", false),
            ("*,!pannier-*", false),
            ("", false),
        ] {
            assert_eq!(list_matches(list, "pannier-commit-v1"), fits, "{list}");
        }
    }
}
