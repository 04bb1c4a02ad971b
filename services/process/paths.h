// Where things are when nobody says otherwise.
#pragma once

#include <string>

namespace lectern::services {

// $XDG_DATA_HOME/lectern, or ~/.local/share/lectern.
std::string DefaultDataDir();

// models/default of the installation (<prefix>/share/lectern) or of the source tree that the
// running program was built in: the nearest one above the program. "" if there is none.
std::string DefaultModelDir();

}  // namespace lectern::services
