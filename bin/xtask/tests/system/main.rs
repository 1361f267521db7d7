//! The whole system on real stores: real processes, real faults, and the ledger of `footfall load` as the judge.
//!
//! The tests take turns, because each of them would disturb the others' timing.

mod access;
mod backlog;
mod balancer;
mod bodies;
mod browser;
mod common;
mod configuration;
mod counting;
mod crowds;
mod fallbacks;
mod faults;
mod flooded;
mod floods;
mod full;
mod galera;
mod growth;
mod hit_rates;
mod honest;
mod imports;
mod limits;
mod lists;
mod live;
mod openapi;
mod outside;
mod power;
mod prometheus;
mod reads;
mod replica;
mod restore;
mod schema;
mod site;
mod stores;
mod tool;
mod upgrade;
mod viewer;
mod viewers;
mod watchdog;
