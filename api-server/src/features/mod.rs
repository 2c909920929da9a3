//! The rooms. Each is shaped alike: `http` (wire types, handlers), `service` (the verbs, transactions), `repo` (SQL),
//! `model` (rules, errors), `tests`. A room is reached by its service alone.

pub mod api_keys;
pub mod audit;
pub mod auth;
pub mod factors;
pub mod health;
pub mod identities;
pub mod mail;
pub mod payments;
pub mod realtime;
pub mod recovery;
pub mod users;
