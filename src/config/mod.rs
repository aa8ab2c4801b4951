//! Text in, [`Config`] or every mistake in it out.
mod model;

pub use model::*;
