package annotation

import (
	"bytes"
	"encoding/gob"
	"net/netip"
)

// plainWeight is a weight on its way to another process.
type plainWeight struct {
	By     quality
	Name   string
	Addr   netip.Addr
	Weight int
}

// GobEncode is that of gob.GobEncoder.
func (w Weights) GobEncode() ([]byte, error) {
	var b bytes.Buffer
	list := make([]plainWeight, 0, len(w))
	for _, one := range w {
		list = append(list, plainWeight{one.by, one.name, one.addr, one.weight})
	}
	err := gob.NewEncoder(&b).Encode(list)
	return b.Bytes(), err
}

// GobDecode is that of gob.GobDecoder.
func (w *Weights) GobDecode(b []byte) error {
	var list []plainWeight
	err := gob.NewDecoder(bytes.NewReader(b)).Decode(&list)
	*w = nil
	for _, one := range list {
		*w = append(*w, weight{selector{one.By, one.Name, one.Addr}, one.Weight})
	}
	return err
}
