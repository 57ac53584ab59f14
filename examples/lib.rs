//! Nothing but the README of the workspace, compiled.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
