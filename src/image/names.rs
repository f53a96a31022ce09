//! The names of an image.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize};

use super::Reference;

/// References that stand for one image, each once and in their order.
///
/// A list with no room to spare: most images have one name, and a set has many images.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Names(Box<[Reference]>);

impl Names {
    /// Whether `name` is one of them.
    pub fn contains(&self, name: &Reference) -> bool {
        self.binary_search(name).is_ok()
    }

    /// Adds a name, unless it is there.
    pub fn insert(&mut self, name: Reference) {
        if let Err(place) = self.binary_search(&name) {
            let mut names = std::mem::take(&mut self.0).into_vec();
            names.insert(place, name);
            self.0 = names.into();
        }
    }

    /// Takes a name out, if it is there.
    pub fn remove(&mut self, name: &Reference) {
        if let Ok(place) = self.binary_search(name) {
            let mut names = std::mem::take(&mut self.0).into_vec();
            names.remove(place);
            self.0 = names.into();
        }
    }
}

impl Deref for Names {
    type Target = [Reference];

    fn deref(&self) -> &[Reference] {
        &self.0
    }
}

impl FromIterator<Reference> for Names {
    fn from_iter<T: IntoIterator<Item = Reference>>(names: T) -> Self {
        let mut names: Vec<Reference> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }
}

impl<const N: usize> From<[Reference; N]> for Names {
    fn from(names: [Reference; N]) -> Self {
        names.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Names {
    type Item = &'a Reference;
    type IntoIter = std::slice::Iter<'a, Reference>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Reference {
        text.parse().unwrap()
    }

    #[test]
    fn each_name_is_there_once_and_in_order() {
        let mut names: Names = [name("b:1"), name("a:1"), name("b:1")].into_iter().collect();
        assert_eq!(names, [name("a:1"), name("b:1")].into());
        names.insert(name("a:0"));
        names.insert(name("a:1"));
        names.remove(&name("b:1"));
        names.remove(&name("none"));
        assert_eq!(names, [name("a:0"), name("a:1")].into());
        assert!(names < [name("b:1")].into());
        let text = serde_json::to_string(&names).unwrap();
        assert_eq!(text, r#"["docker.io/library/a:0","docker.io/library/a:1"]"#);
        assert_eq!(serde_json::from_str::<Names>(&text).unwrap(), names);
    }
}
