-- Nothing is granted to public: not the schema, and no function in it.
revoke all on schema posthorn from public;
revoke all on all tables in schema posthorn from public;
revoke all on all routines in schema posthorn from public;
