if meta.epoch ~= ARGV[1] or meta.incarnation ~= incarnation() then return {'EPOCH'} end
