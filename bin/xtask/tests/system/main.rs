//! The whole system on real stores: real processes, real faults, and the ledger of `footfall load` as the judge.
//!
//! Tests run side by side, on a stack each. Those that measure are in [`alone`], and wait until they are alone.

mod access;
mod alone;
mod balancer;
mod browser;
mod cluster;
mod common;
mod configuration;
mod counting;
mod doctor;
mod fallbacks;
mod faults;
mod full;
mod galera;
mod growth;
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
mod sentinels;
mod shards;
mod site;
mod stores;
mod tool;
mod under_load;
mod upgrade;
mod viewer;
mod watchdog;
