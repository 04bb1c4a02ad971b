// Addresses and ports of the loopback interface, for tests that start servers.
#pragma once

#include <netinet/in.h>

#include <string>

namespace lectern::testing {

sockaddr_in Loopback(int port);
// Of "127.0.0.1:PORT".
int PortOf(const std::string& address);
// A port that nobody uses at the moment. Ends the test program if there is none.
int FreePort();
// "127.0.0.1:PORT" with such a port.
std::string FreeAddress();

}  // namespace lectern::testing
