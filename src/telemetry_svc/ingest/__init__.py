"""Topic to transaction: what the records of `excavator.pings` and `excavator.commands` do, in one order, one place."""
