use std::sync::OnceLock;

use sha1_smol::Sha1;

/// A script that this store itself needs, beside those of programs.
#[derive(Debug)]
pub(in crate::redis) struct Lua {
    text: &'static str,
    sha1: OnceLock<Box<str>>,
}

impl Lua {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            sha1: OnceLock::new(),
        }
    }

    pub(in crate::redis) const fn text(&self) -> &'static str {
        self.text
    }

    /// Returns the hash that `EVALSHA` takes, computed once.
    pub(super) fn sha1(&self) -> &str {
        self.sha1.get_or_init(|| sha1(self.text))
    }
}

/// Returns the name that Redis gives to a script.
pub(in crate::redis) fn sha1(text: &str) -> Box<str> {
    Sha1::from(text).digest().to_string().into()
}

pub(super) static COMPARE_AND_SET: Lua = Lua::new(include_str!("../lua/compare_and_set.lua"));
pub(super) static COMPARE_AND_DELETE: Lua = Lua::new(include_str!("../lua/compare_and_delete.lua"));
pub(super) static ADD: Lua = Lua::new(include_str!("../lua/add.lua"));

// Where the server lacks a feature.
pub(super) static SET_IF_ABSENT: Lua = Lua::new(include_str!("../lua/set_if_absent.lua"));
pub(super) static SET_KEEPING: Lua = Lua::new(include_str!("../lua/set_keeping.lua"));
pub(super) static TOUCH_LONGER: Lua = Lua::new(include_str!("../lua/touch_longer.lua"));
