//! The encoders that can be recreated, and their names in records.

use std::fmt;
use std::str::FromStr;

use super::Encoder;
use super::{golang, klauspost, zlib};

/// Which versions of klauspost/compress an encoder does as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// 1.15.0 to 1.15.9.
    V1150,
    /// 1.15.10 to 1.18.0.
    V11510,
    /// 1.18.1.
    V1181,
    /// From 1.18.2 on, and Go's own compress/flate from Go 1.27 on.
    V1182,
}

const FORMS: [(Form, &str); 4] =
    [(Form::V1150, "1.15.0"), (Form::V11510, "1.15.10"), (Form::V1181, "1.18.1"), (Form::V1182, "1.18.2")];

/// A deflate encoder: what has to be known, beside the tar, to make its bytes again.
///
/// As text, family, form, level and size of blocks: `go/6`, `pgzip-1.15.10/5/1048576`. That is what records say, so a
/// text keeps its meaning for ever; what an encoder of other ways needs is another text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Model {
    /// Go's compress/flate up to Go 1.26, levels -2 to 9: `go/LEVEL`.
    Go {
        /// The level.
        level: i8,
    },
    /// klauspost/compress, levels 1, 5 and 6: `klauspost-FORM/LEVEL`.
    Klauspost {
        /// The versions.
        form: Form,
        /// The level.
        level: u8,
    },
    /// klauspost/pgzip, levels 1, 5 and 6: `pgzip-FORM/LEVEL/BLOCK`.
    Pgzip {
        /// The versions of klauspost/compress below it.
        form: Form,
        /// The level.
        level: u8,
        /// Bytes that are compressed on their own: 1 MiB or 256 KiB.
        block: u32,
    },
    /// zlib, levels 1 to 9: `zlib/LEVEL`.
    Zlib {
        /// The level.
        level: u8,
    },
    /// GNU gzip, levels 1 to 9: `gzip/LEVEL`.
    Gnu {
        /// The level.
        level: u8,
    },
    /// pigz on top of zlib with its blocks of 128 KiB, levels 1 to 9: `pigz/LEVEL/131072`.
    Pigz {
        /// The level.
        level: u8,
    },
}

/// The sizes of pgzip's blocks that tools use.
const PGZIP_BLOCKS: [u32; 2] = [1 << 20, 256 << 10];
/// The size of pigz' blocks.
const PIGZ_BLOCK: u32 = 128 << 10;

impl Model {
    /// Every model, those that layers are made with more often first.
    pub fn all() -> impl Iterator<Item = Self> {
        let levels = [6, 5, 1, 9, 4, 7, 8, 3, 2];
        let forms = [Form::V11510, Form::V1182, Form::V1181, Form::V1150];
        let klauspost =
            [5, 6, 1].into_iter().flat_map(move |level| forms.into_iter().map(move |form| (form, level)));
        let klauspost = klauspost.filter(|&(form, level)| !(form == Form::V1150 && level == 1));
        let go = [6, 1, 9, 5, 4, 7, 8, 3, 2, -2, 0].into_iter().map(|level| Self::Go { level });
        let pgzip = klauspost
            .clone()
            .flat_map(|(form, level)| PGZIP_BLOCKS.map(|block| Self::Pgzip { form, level, block }));
        let klauspost = klauspost.map(|(form, level)| Self::Klauspost { form, level });
        let zlib = levels.into_iter().map(|level| Self::Zlib { level });
        let gnu = levels.into_iter().map(|level| Self::Gnu { level });
        let pigz = levels.into_iter().map(|level| Self::Pigz { level });
        go.chain(pgzip).chain(klauspost).chain(zlib).chain(gnu).chain(pigz)
    }

    pub(super) fn encoder(self) -> Option<Box<dyn Encoder>> {
        match self {
            Self::Go { level } => golang::encoder(level),
            Self::Klauspost { form, level } => klauspost::single(form, level),
            Self::Pgzip { form, level, block } => klauspost::parallel(form, level, block as usize),
            Self::Zlib { level } => zlib::zlib(level),
            Self::Gnu { level } => zlib::gnu(level),
            Self::Pigz { level } => zlib::pigz(level),
        }
    }

    /// Whether the encoder writes empty stored blocks of itself.
    pub(super) fn marks(self) -> bool {
        matches!(self, Self::Pgzip { .. } | Self::Pigz { .. })
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |wanted: Form| FORMS.iter().find(|(form, _)| *form == wanted).map_or("", |(_, name)| *name);
        match *self {
            Self::Go { level } => write!(f, "go/{level}"),
            Self::Klauspost { form, level } => write!(f, "klauspost-{}/{level}", name(form)),
            Self::Pgzip { form, level, block } => write!(f, "pgzip-{}/{level}/{block}", name(form)),
            Self::Zlib { level } => write!(f, "zlib/{level}"),
            Self::Gnu { level } => write!(f, "gzip/{level}"),
            Self::Pigz { level } => write!(f, "pigz/{level}/{PIGZ_BLOCK}"),
        }
    }
}

/// No model of this version has that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this version does not know the gzip encoder that is named")]
pub struct UnknownModel;

impl FromStr for Model {
    type Err = UnknownModel;

    fn from_str(text: &str) -> Result<Self, UnknownModel> {
        Self::all().find(|model| model.to_string() == text).ok_or(UnknownModel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name in a record must mean the same in every version: never change a line here.
    #[test]
    fn names_are_fixed() {
        let names: Vec<String> = Model::all().map(|model| model.to_string()).collect();
        for name in [
            "go/6",
            "go/-2",
            "pgzip-1.15.10/5/1048576",
            "pgzip-1.18.1/5/262144",
            "klauspost-1.18.2/6",
            "zlib/6",
            "gzip/9",
            "pigz/6/131072",
        ] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        assert_eq!(names.len(), 11 + 11 + 22 + 27);
    }

    #[test]
    fn names_are_read_back_and_all_have_an_encoder() {
        for model in Model::all() {
            assert_eq!(model.to_string().parse(), Ok(model));
            assert!(model.encoder().is_some(), "{model}");
        }
        for other in ["", "go", "go/10", "go/06", "pgzip-1.15.10/5/1", "pigz/6", "klauspost-1.15.0/1"] {
            assert_eq!(other.parse::<Model>(), Err(UnknownModel), "{other}");
        }
    }
}
