// Command manual writes what is installed beside usher for who types its commands: a manual
// page for each of them (section 1) and for the configuration file (section 5), and the
// completions of bash, zsh and fish. All of it comes from the commands themselves, so it
// cannot tell of what is not there.
//
//	go run ./cmd/usher/manual -version v1.2.3 DIRECTORY
//
// It is a program of its own because the packages that write manual pages have no place in
// the daemon. The date on the pages is $SOURCE_DATE_EPOCH, as for all that is to be built
// twice alike (https://reproducible-builds.org/specs/source-date-epoch/).
package main
