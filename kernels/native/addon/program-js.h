// Programs of JavaScript: operations on the columns of rows.
#pragma once

#include "js.h"

namespace cellbatch {

/** Adds the functions of programs; see ../load.ts for their types. */
void addProgramFunctions(const Values& js, napi_value exports);

}  // namespace cellbatch
