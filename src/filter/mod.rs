//! What may be refused, and what is changed on the way.
//!
//! [`guard`] looks at a head and says no; [`forward`] writes the head that travels on. Neither
//! knows a socket, and both see HTTP/1.1 and HTTP/2 alike.

pub mod authority;
pub mod forward;
pub mod guard;
