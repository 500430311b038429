// Package ui tests the page of usher ui with a real usher behind it, in a real browser.
package ui
