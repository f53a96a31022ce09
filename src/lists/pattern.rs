//! Which images a person means by a pattern.

use std::str::FromStr;

use crate::error::Error;
use crate::image::Reference;
use crate::patterns;

/// A name with `*` and `?`, or a repository: `quay.io/team/*`, `auto`, `*:latest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// What the text means as a name: `auto` is `docker.io/library/auto`.
    named: Option<Reference>,
}

impl FromStr for Pattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Err(Error::Usage("a pattern is empty".into()));
        }
        Ok(Self { text: text.to_owned(), named: text.parse().ok() })
    }
}

impl Pattern {
    /// The pattern as it was given.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it fits what somebody wrote in place of a name, which may be none.
    pub fn fits_text(&self, text: &str) -> bool {
        patterns::matches(&self.text, text) || text.parse().is_ok_and(|image| self.fits(&image))
    }

    /// Whether it fits a name: all of it, its repository, or either as short as people write it.
    pub fn fits(&self, image: &Reference) -> bool {
        let full = image.to_string();
        let whole = [full.as_str(), image.repository()];
        let short = |text: &str| {
            let text = text.strip_prefix("docker.io/")?;
            Some(text.strip_prefix("library/").unwrap_or(text).to_owned())
        };
        let said_tag = self.text.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let by_name = self.named.as_ref().is_some_and(|named| {
            if said_tag { named == image } else { named.repository() == image.repository() }
        });
        by_name
            || whole.iter().any(|text| patterns::matches(&self.text, text))
            || whole.iter().filter_map(|text| short(text)).any(|text| patterns::matches(&self.text, &text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_names_as_people_write_them() {
        let fits =
            |pattern: &str, image: &str| pattern.parse::<Pattern>().unwrap().fits(&image.parse().unwrap());
        for (pattern, image) in [
            ("auto", "auto"),
            ("auto", "auto:1"),
            ("docker.io/library/auto", "auto"),
            ("nginx:1.*", "nginx:1.29"),
            ("*:latest", "quay.io/team/app"),
            ("quay.io/team/*", "quay.io/team/app:1"),
            ("*/app*", "quay.io/team/app:1"),
            ("nginx:1", "docker.io/library/nginx:1"),
        ] {
            assert!(fits(pattern, image), "{pattern} {image}");
        }
        for (pattern, image) in
            [("auto", "quay.io/team/auto"), ("nginx:1", "nginx:1.2"), ("quay.io/team", "quay.io/team/app:1")]
        {
            assert!(!fits(pattern, image), "{pattern} {image}");
        }
        assert!("REPLACE_*".parse::<Pattern>().unwrap().fits_text("REPLACE_ME"));
        assert!("".parse::<Pattern>().is_err());
    }
}
