//! What servers answer is as hostile as what clients ask. For each answer: what its own client gets, over HTTP/1.1 and
//! over HTTP/2; that the next client is well; that the server's connection is not used again unless the answer was sound.

mod bodies;
mod chunks;
mod early;
mod fields;
mod gone;
mod interims;
mod lengths;
mod pool;
mod rig;
mod status_lines;
mod stored;
mod timing;
