//! Several tags of a repository at once: by a pattern, or by their versions.

use std::cmp::Ordering;
use std::str::FromStr;

use crate::error::Error;
use crate::image::{Reference, ReferenceError};
use crate::patterns;

/// Tags of a repository that are asked for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagsOf {
    /// Any name in the repository.
    pub repository: Reference,
    /// Which of its tags.
    pub filter: TagFilter,
    /// Where it is named: `images.txt:3`.
    pub place: String,
}

/// Which tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagFilter {
    /// Those that fit a pattern of `*` and `?`.
    Pattern(String),
    /// Those that are versions for which all of this holds.
    Versions(Vec<(Comparison, Version)>),
}

/// How a version is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`, or nothing.
    Equal,
    /// `>`.
    Above,
    /// `>=`.
    AtLeast,
    /// `<`.
    Below,
    /// `<=`.
    AtMost,
}

/// A version (Semantic Versioning 2.0.0), with or without `v`, of one to three numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    numbers: [u64; 3],
    /// What stands behind `-`: a release comes after all that have something.
    pre: Option<String>,
}

impl FromStr for TagFilter {
    type Err = Error;

    /// Reads `semver CONDITIONS`, such as `semver >=1.29 <1.31`, or a pattern, such as `1.29.*`.
    fn from_str(text: &str) -> Result<Self, Error> {
        let Some(conditions) = text.trim().strip_prefix("semver") else {
            let legal = |c: char| c.is_ascii_alphanumeric() || "_.-*?".contains(c);
            if text.is_empty() || !text.chars().all(legal) {
                return Err(Error::Usage(format!(
                    "{text:?} says no tags: give a pattern such as 1.29.*, or semver >=1.29 <1.31"
                )));
            }
            return Ok(Self::Pattern(text.to_owned()));
        };
        let mut versions = Vec::new();
        // A blank may stand behind the sign.
        let joined = conditions.replace(',', " ");
        let mut sign = String::new();
        for word in joined.split_whitespace() {
            let start = word.find(|c: char| !"<>=".contains(c)).unwrap_or(word.len());
            sign.push_str(&word[..start]);
            if start == word.len() {
                continue;
            }
            let comparison = match sign.as_str() {
                "" | "=" | "==" => Comparison::Equal,
                ">" => Comparison::Above,
                ">=" => Comparison::AtLeast,
                "<" => Comparison::Below,
                "<=" => Comparison::AtMost,
                other => return Err(Error::Usage(format!("{other} is no way to compare versions"))),
            };
            let version = Version::parse(&word[start..])
                .ok_or_else(|| Error::Usage(format!("{} is no version", &word[start..])))?;
            versions.push((comparison, version));
            sign.clear();
        }
        if versions.is_empty() || !sign.is_empty() {
            return Err(Error::Usage("semver needs conditions, such as semver >=1.29 <1.31".into()));
        }
        Ok(Self::Versions(versions))
    }
}

impl TagFilter {
    /// The tags that are meant, in the order of their versions. Tags of signatures are never.
    pub fn choose(&self, tags: &[String]) -> Vec<String> {
        let is_signature = |tag: &str| tag.strip_prefix("sha256-").is_some_and(|hex| hex.len() >= 64);
        let mut chosen: Vec<String> =
            tags.iter().filter(|tag| self.fits(tag) && !is_signature(tag)).cloned().collect();
        chosen.sort_by(|a, b| match (Version::parse(a), Version::parse(b)) {
            (Some(one), Some(other)) => one.cmp(&other).then_with(|| a.cmp(b)),
            (one, other) => one.is_some().cmp(&other.is_some()).then_with(|| a.cmp(b)),
        });
        chosen.dedup();
        chosen
    }

    fn fits(&self, tag: &str) -> bool {
        let conditions = match self {
            Self::Pattern(pattern) => return patterns::matches(pattern, tag),
            Self::Versions(conditions) => conditions,
        };
        let Some(version) = Version::parse(tag) else { return false };
        // 1.30.0-rc.1 comes before 1.30.0, but nobody who asks for releases means it.
        let before_releases = conditions.iter().any(|(_, wanted)| wanted.pre.is_some());
        (version.pre.is_none() || before_releases)
            && conditions.iter().all(|(comparison, wanted)| {
                let order = version.cmp(wanted);
                match comparison {
                    Comparison::Equal => order == Ordering::Equal,
                    Comparison::Above => order == Ordering::Greater,
                    Comparison::AtLeast => order != Ordering::Less,
                    Comparison::Below => order == Ordering::Less,
                    Comparison::AtMost => order != Ordering::Greater,
                }
            })
    }
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (core, pre) = match text.split_once('-') {
            Some((_, "")) => return None,
            Some((core, pre)) => (core, Some(pre.to_owned())),
            None => (text, None),
        };
        let mut numbers = [0; 3];
        for (at, part) in core.split('.').enumerate() {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            *numbers.get_mut(at)? = digits.then(|| part.parse().ok()).flatten()?;
        }
        Some(Self { numbers, pre })
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// As Semantic Versioning has it (section 11).
    fn cmp(&self, other: &Self) -> Ordering {
        let by_pre = match (&self.pre, &other.pre) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => Ordering::Greater,
            (Some(_), None) => Ordering::Less,
            (Some(one), Some(other)) => {
                let part = |text: &str| -> (bool, u64, String) {
                    text.parse()
                        .map_or_else(|_| (true, 0, text.to_owned()), |number| (false, number, String::new()))
                };
                one.split('.').map(part).cmp(other.split('.').map(part))
            }
        };
        self.numbers.cmp(&other.numbers).then(by_pre)
    }
}

impl TagsOf {
    /// Reads `repository:PATTERN`; with `every` also a name without tag and digest, which stands for those of
    /// its tags. `None` for the name of one image, or none at all.
    pub(super) fn read(
        text: &str,
        every: Option<&TagFilter>,
        place: &str,
    ) -> Option<Result<Self, ReferenceError>> {
        let slash = text.rfind('/').map_or(0, |at| at + 1);
        if text.contains('@') {
            return None;
        }
        let (repository, filter) = match (text[slash..].find(':').map(|at| slash + at), every) {
            (Some(colon), _) if text[colon..].contains(['*', '?']) => {
                (&text[..colon], text[colon + 1..].parse().ok()?)
            }
            (None, Some(filter)) => (text, filter.clone()),
            _ => return None,
        };
        let made = |repository| Self { repository, filter, place: place.to_owned() };
        Some(repository.parse().map(made))
    }

    /// The images that `tags` of the repository stand for; an error where none of them fits.
    pub fn images(&self, tags: &[String]) -> Result<Vec<Reference>, Error> {
        let repository = self.repository.repository();
        let chosen = self.filter.choose(tags);
        if chosen.is_empty() {
            let mut some: Vec<&str> = tags.iter().rev().take(5).map(String::as_str).collect();
            some.reverse();
            let has = if some.is_empty() {
                "none".to_owned()
            } else {
                format!("{} in all, among them {}", tags.len(), some.join(", "))
            };
            let what = format!("a tag of {repository} that fits ({}; its tags: {has})", self.place);
            return Err(Error::not_found(crate::error::Side::Source, what));
        }
        let named = chosen.into_iter().filter_map(|tag| format!("{repository}:{tag}").parse().ok());
        Ok(named.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [&str; 14] = [
        "latest",
        "1.29.0",
        "1.29.10",
        "1.29.9",
        "v1.30.1",
        "1.30",
        "1.31.0",
        "1.31.0-rc.1",
        "1.31.0-alpine",
        "1",
        "stable-1.29.0",
        "1.2.3.4",
        "main",
        "sha256-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.sig",
    ];

    fn chosen(filter: &str) -> Vec<String> {
        filter.parse::<TagFilter>().unwrap().choose(&TAGS.map(str::to_owned))
    }

    #[test]
    fn tags_are_chosen_by_pattern_and_by_version() {
        assert_eq!(chosen("1.29.*"), ["1.29.0", "1.29.9", "1.29.10"]);
        assert_eq!(chosen("semver >=1.29 <1.31"), ["1.29.0", "1.29.9", "1.29.10", "1.30", "v1.30.1"]);
        assert_eq!(chosen("semver >= 1.30, <= 1.31.0"), ["1.30", "v1.30.1", "1.31.0"]);
        assert_eq!(chosen("semver >=1.31.0-a <1.31.0"), ["1.31.0-alpine", "1.31.0-rc.1"]);
        assert_eq!(chosen("semver 1.29.9"), ["1.29.9"]);
        assert_eq!(chosen("semver >99"), Vec::<String>::new());
        assert_eq!(chosen("*").len(), TAGS.len() - 1);
        for bad in ["", "semver", "semver >=", "semver >=x", "semver =>1", "a b", "a/b"] {
            assert!(bad.parse::<TagFilter>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_of_several_images_are_told_from_names_of_one() {
        let every = "semver >=1".parse().unwrap();
        let read =
            |text: &str, every| TagsOf::read(text, every, "x").map(|read| read.map(|read| read.filter));
        assert_eq!(read("nginx:1.29.*", None).unwrap().unwrap(), TagFilter::Pattern("1.29.*".into()));
        assert_eq!(read("host:5000/nginx:v?", None).unwrap().unwrap(), TagFilter::Pattern("v?".into()));
        assert_eq!(read("host:5000/nginx", Some(&every)).unwrap().unwrap(), every);
        for one in ["nginx:1", "nginx", "host:5000/nginx", "nginx@sha256:*"] {
            assert!(read(one, None).is_none(), "{one}");
        }
        assert!(read("nginx:1", Some(&every)).is_none());
        assert!(read("Not A Name:*", None).unwrap().is_err());
    }
}
