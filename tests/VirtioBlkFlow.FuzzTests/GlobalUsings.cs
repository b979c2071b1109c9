global using System.Runtime.CompilerServices;
global using System.Runtime.InteropServices;
global using Microsoft.Win32.SafeHandles;
