//! Tidegate beside another proxy: what one of them reads as one request, the other must not read as two.
//!
//! nginx and HAProxy, as Debian ships them, stand before Tidegate or behind it; the last server notes what reaches it
//! ([`crate::support::recorder`]). The cases are those that Tidegate alone is held to ([`crate::strict`],
//! [`crate::http2_rules`]) and some that are for pairs. Either may refuse, and who stands in front may mend. But each
//! request that reaches the server is by the letter, was taken for one by whoever stands in front, and is answered to its
//! client alone; and whoever comes next gets his own answer.

mod cases;
mod crowd;
mod http2;
mod rig;

use rig::{Other, Place, Stage};

#[track_caller]
fn agree(other: Other, place: Place) {
    if let Some(stage) = Stage::start(other, place, "") {
        stage.play();
    }
}

#[test]
fn nginx_before_tidegate_and_it_agree_on_every_request() {
    agree(Other::Nginx, Place::Before);
}

#[test]
fn haproxy_before_tidegate_and_it_agree_on_every_request() {
    agree(Other::Haproxy, Place::Before);
}

#[test]
fn a_haproxy_that_forgives_before_tidegate_and_it_agree_on_every_request() {
    agree(Other::ForgivingHaproxy, Place::Before);
}

#[test]
fn nginx_behind_tidegate_and_it_agree_on_every_request() {
    agree(Other::Nginx, Place::Behind);
}

#[test]
fn haproxy_behind_tidegate_and_it_agree_on_every_request() {
    agree(Other::Haproxy, Place::Behind);
}
