// Package handover brings what one process of usher serves to the next one.
package handover
