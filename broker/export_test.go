package broker

// SealAddress makes the address of a document, for tests of addresses that no record would give.
func (b *Broker) SealAddress(d DocumentAddress) (id, seal string) { return b.sealAddress(d) }
