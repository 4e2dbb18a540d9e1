// What Bio-Formats sees in a file: key=value lines, and the pixels plane by plane.
import java.io.FileOutputStream;
import java.io.PrintStream;
import loci.common.DebugTools;
import loci.common.services.ServiceFactory;
import loci.formats.ImageReader;
import loci.formats.meta.IMetadata;
import loci.formats.services.OMEXMLService;
import ome.units.quantity.Length;
import ome.units.quantity.Time;

public class BioFormats {
    static void length(PrintStream out, String axis, Length size) {
        if (size != null) {
            out.println("scale " + axis + "=" + size.value());
            out.println("unit " + axis + "=" + size.unit().getSymbol());
        }
    }

    public static void main(String[] arguments) throws Exception {
        DebugTools.setRootLevel("ERROR");
        OMEXMLService service = new ServiceFactory().getInstance(OMEXMLService.class);
        IMetadata facts = service.createOMEXMLMetadata();
        ImageReader reader = new ImageReader();
        reader.setFlattenedResolutions(false);
        reader.setMetadataStore(facts);
        reader.setId(arguments[0]);
        PrintStream out = new PrintStream(System.out, true, "UTF-8");
        out.println("format=" + reader.getFormat());
        out.println("valid=" + service.validateOMEXML(service.getOMEXML(facts)));
        out.println("C=" + reader.getSizeC());
        out.println("Z=" + reader.getSizeZ());
        out.println("T=" + reader.getSizeT());
        out.println("levels=" + reader.getResolutionCount());
        length(out, "X", facts.getPixelsPhysicalSizeX(0));
        length(out, "Y", facts.getPixelsPhysicalSizeY(0));
        length(out, "Z", facts.getPixelsPhysicalSizeZ(0));
        Time step = facts.getPixelsTimeIncrement(0);
        if (step != null) {
            out.println("scale T=" + step.value());
            out.println("unit T=" + step.unit().getSymbol());
        }
        for (int channel = 0; channel < reader.getSizeC(); channel++) {
            out.println("channel " + (channel + 1) + "="
                + facts.getChannelName(0, channel));
        }
        FileOutputStream pixels = new FileOutputStream(arguments[1]);
        for (int t = 0; t < reader.getSizeT(); t++) {
            for (int z = 0; z < reader.getSizeZ(); z++) {
                for (int c = 0; c < reader.getSizeC(); c++) {
                    pixels.write(reader.openBytes(reader.getIndex(z, c, t)));
                }
            }
        }
        pixels.close();
        reader.close();
    }
}
