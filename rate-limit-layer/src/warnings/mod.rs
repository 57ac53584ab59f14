#![doc = include_str!("../../docs/warnings.md")]

mod charged_twice;
mod forwarding;
mod made;
mod registry;

pub(crate) use self::{charged_twice::ChargedTwice, forwarding::Forwarding, made::Made};

/// Logs a warning with its code and the address of its section.
macro_rules! warn_of {
    ($code:literal, $($event:tt)+) => {
        tracing::warn!(
            code = $code,
            help = concat!(
                "https://docs.rs/rate-limit-layer/latest/rate_limit_layer/warnings/#",
                $code
            ),
            $($event)+
        )
    };
}
pub(crate) use warn_of;

#[cfg(test)]
mod tests {
    /// Every code in this crate's source has its section, and every section its code.
    #[test]
    fn each_warning_has_a_section() {
        let page = include_str!("../../docs/warnings.md");
        let sections: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`'))
            .collect();
        let mut codes: Vec<_> = [
            include_str!("charged_twice.rs"),
            include_str!("forwarding.rs"),
            include_str!("made.rs"),
            include_str!("../policy/counts_by.rs"),
        ]
        .iter()
        .flat_map(|source| source.split("warn_of!(").skip(1))
        .filter_map(|call| call.split('"').nth(1))
        .collect();
        codes.sort_unstable();
        let mut expected = sections.clone();
        expected.sort_unstable();
        assert_eq!(codes, expected);
        assert_eq!(sections.len(), 5);
    }
}
