-- One database a service: none reads another's.
CREATE DATABASE accounts;
CREATE DATABASE billing;
CREATE DATABASE catalog;
CREATE DATABASE jobs;
CREATE DATABASE usage;
