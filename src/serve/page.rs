//! The page for people: what is served, as HTML without scripts, for a phone as well as for a desktop.

use std::fmt::Write;

use super::shelf::{Shelf, Tag};
use crate::record::{Record, list};
use crate::trust::Admitted;

/// What the page says.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Where it comes from, one line for each medium: label and value of each fact.
    pub sources: Vec<Vec<(&'static str, String)>>,
    /// The images.
    pub images: Vec<Row>,
}

/// An image on the page.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// Its names.
    pub names: Vec<String>,
    /// Its platforms.
    pub platforms: String,
    /// Bytes of everything that it needs, and the part of them that others need as well.
    pub size: Option<(u64, u64)>,
    /// What its tag points at, and whether that is upstream's digest, where that is known.
    pub digest: Option<(String, Option<bool>)>,
    /// Why it has no tag.
    pub incomplete: Option<String>,
}

impl Overview {
    /// The overview of media.
    pub(super) fn of(media: &[Admitted], records: &[&Record], shelf: &Shelf) -> Self {
        let mut overview = Self::default();
        for (medium, record) in media.iter().zip(records) {
            let listing = list(record);
            let signed = match (medium.is_authentic(), medium.has_signature().unwrap_or(false)) {
                (true, _) => "yes, by somebody whose signature counts here",
                (false, true) => "yes, by whom was not asked",
                (false, false) => "no",
            };
            let verified = record.verified.map_or("not noted".to_owned(), |level| {
                format!("{level} when commit {} was written", record.sequence)
            });
            overview.sources.push(vec![
                ("Medium", record.medium.chars().take(12).collect()),
                ("Commit", format!("{} of {}", record.sequence, record.created)),
                ("Size", size(listing.size)),
                ("Verified", verified),
                ("Signed", signed.to_owned()),
            ]);
            for image in listing.images {
                let tag = image.names.iter().find_map(|name| {
                    let name: crate::image::Reference = name.parse().ok()?;
                    shelf.tag(name.repository(), name.tag()?)
                });
                let (digest, incomplete) = match tag {
                    Some(Tag::At(digest)) => {
                        (Some((digest.to_string(), Some(*digest == image.original))), None)
                    }
                    Some(Tag::Incomplete(reason)) => (None, Some(reason.clone())),
                    None => (Some((image.carried.to_string(), Some(image.carried == image.original))), None),
                };
                overview.images.push(Row {
                    names: image.names,
                    platforms: image.platforms.join(", "),
                    size: Some((image.size, image.shared)),
                    digest,
                    incomplete,
                });
            }
        }
        overview
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:64rem;padding:1rem}\
h1{font-size:1.4rem;margin:.5rem 0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
dl{display:grid;grid-template-columns:auto 1fr;gap:.1rem .8rem;margin:0 0 1rem}dt{opacity:.7}dd{margin:0;overflow-wrap:anywhere}\
ul{list-style:none;margin:0;padding:0}li{border-top:1px solid #8886;padding:.6rem 0}\
.name{font-weight:600;overflow-wrap:anywhere}.facts{display:flex;flex-wrap:wrap;gap:0 1.2rem;font-size:.9rem;opacity:.85}\
code{font-size:.8rem;overflow-wrap:anywhere}.bad{color:#b00020}@media(prefers-color-scheme:dark){.bad{color:#ff8a80}}";

/// The page.
pub fn html(overview: &Overview) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>Pannier mirror</title><style>{STYLE}</style></head><body>\n<h1>Pannier mirror</h1>\n"
    );
    for source in &overview.sources {
        page.push_str("<dl>");
        for (label, value) in source {
            let _ = write!(page, "<dt>{label}</dt><dd>{}</dd>", escape(value));
        }
        page.push_str("</dl>\n");
    }
    let count = overview.images.len();
    let _ = writeln!(page, "<h2>{count} {}</h2>\n<ul>", if count == 1 { "image" } else { "images" });
    for row in &overview.images {
        page.push_str("<li>");
        for name in &row.names {
            let _ = write!(page, "<div class=\"name\">{}</div>", escape(name));
        }
        page.push_str("<div class=\"facts\">");
        if !row.platforms.is_empty() {
            let _ = write!(page, "<span>{}</span>", escape(&row.platforms));
        }
        if let Some((all, shared)) = row.size {
            let _ = write!(page, "<span>{}, {} of it shared</span>", size(all), size(shared));
        }
        page.push_str("</div>");
        if let Some((digest, upstream)) = &row.digest {
            let whose = match upstream {
                Some(true) => "upstream's digest",
                Some(false) => "the carried digest",
                None => "",
            };
            let _ = write!(page, "<code>{}</code> <small>{whose}</small>", escape(digest));
        }
        if let Some(reason) = &row.incomplete {
            let _ = write!(page, "<div class=\"bad\">not served by its tag: {}</div>", escape(reason));
        }
        page.push_str("</li>\n");
    }
    page.push_str("</ul>\n</body></html>\n");
    page
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

fn size(bytes: u64) -> String {
    let (value, unit) = match bytes {
        0..1_000_000 => (bytes as f64 / 1e3, "kB"),
        1_000_000..1_000_000_000 => (bytes as f64 / 1e6, "MB"),
        _ => (bytes as f64 / 1e9, "GB"),
    };
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_on_a_medium_becomes_markup() {
        let row = Row { names: vec!["<script>alert(\"x\")</script>".into()], ..Row::default() };
        let overview = Overview { sources: vec![vec![("Medium", "a&b\u{1b}".into())]], images: vec![row] };
        let page = html(&overview);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&quot;x&quot;)") && page.contains("a&amp;b\u{fffd}"));
        assert!(page.contains("1 image<") && page.contains("width=device-width"));
    }
}
